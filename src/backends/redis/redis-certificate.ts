/** Has Redis read its certificate again, as its owner. */
import { ChamberlainError } from '../../shared/errors.ts';
import { connectProducer, type RedisPlace } from './redis-connection.ts';

/** Redis reads the file when it is named, even if it was named before. Open connections go on. */
export async function readCertificateAgain(config: RedisPlace, file: string): Promise<void> {
  const redis = connectProducer(config, 'owner');
  try {
    await redis.config('SET', 'tls-cert-file', file, 'tls-key-file', file);
  } catch (cause) {
    throw new ChamberlainError('STEP_FAILED', 'having Redis read its certificate', { cause });
  } finally {
    redis.disconnect();
  }
}
