/** Waits for a promise, or throws the signal's reason if that aborts first. */
export async function unlessAborted<T>(coming: Promise<T>, signal: AbortSignal): Promise<T> {
  coming.catch(() => {}); // the race below reports the error, if it is still waiting
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort);
  try {
    return await Promise.race([coming, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
