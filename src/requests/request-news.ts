/** What has happened to a request since its verdict, for a program that follows it without our database. */
export interface RequestNews {
  portal: string;
  /** the id that the portal gave it */
  request: string;
  event: 'request.waiting' | 'request.rejected' | 'request.stuck' | 'request.done';
  code?: string | null;
  /** as in the event */
  data: { why?: string; by?: string; role?: string; sentence?: string; reason?: string };
}
