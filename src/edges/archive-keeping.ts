/** What hands that put away ask of our PostgreSQL, whatever it is that they put away. */
export interface ArchiveKeeping {
  /** durably, while the subject's lock is held */
  record(archive: {
    subject: number;
    departure: number;
    manifestSha256: string;
    path: string;
    bytes: number;
  }): Promise<void>;
  /**
   * Of the same departure, in the same direction (`returning`: it is brought back, or put away; undefined:
   * it is destroyed), under the lock. Throws where it cannot be known.
   */
  stillWanted(step: {
    subject: number;
    departure: number;
    returning: boolean | undefined;
  }): Promise<boolean>;
  /** nothing is being done any more */
  clear(subject: number): Promise<void>;
}
