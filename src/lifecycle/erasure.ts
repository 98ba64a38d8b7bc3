/**
 * What is kept of a person who is deleted or erased, and what is not. The function `erase_person` (migrations) does
 * it with the owner's right, and refuses anyone who is not deleted.
 *
 * | kept                                                    | erased                                         |
 * | ------------------------------------------------------- | ---------------------------------------------- |
 * | number and shell name: never given again                | display name, mail, reason of a suspension     |
 * | fingerprints of keys, so that no key comes to another    | keys, their labels and options                 |
 * | that access was asked for and given, when and by whom   | the reasons of both                            |
 * | requests: kind, hash, who asked, code                   | their sentences, bodies that waited            |
 * | events: name, time, account, fields                     | whatever else they say; in queues too (relay)  |
 * | the audit: it holds none                                | drifts, sentences of roles, old surveys        |
 *
 * A request lies in Redis for an hour after its verdict, with all that it says. Backups, the write-ahead
 * log and Redis' append-only file hold it until they are replaced.
 */
import type { Client } from '../database/connection.ts';

/** Erases a person who is deleted, and takes away access and memberships that mean nothing any more. */
export async function erasePerson(client: Pick<Client, 'query'>, person: number): Promise<void> {
  await client.query('DELETE FROM realm_members WHERE person = $1', [person]);
  await client.query('DELETE FROM maintainers WHERE maintainer = $1', [person]);
  await client.query('SELECT erase_person($1)', [person]);
}
