/**
 * What is kept of a person who is deleted or erased, and what is not. The function `erase_person` (migrations) does the
 * work with the owner's rights. It refuses a person who is not deleted.
 *
 * | kept                                                    | erased                                         |
 * | ------------------------------------------------------- | ---------------------------------------------- |
 * | uid and shell name, which are never used again          | display name, mail, reason of a suspension     |
 * | fingerprints of keys, so that nobody else can add them  | keys, their labels and options                 |
 * | requests for access and grants: when and by whom        | the reasons of both                            |
 * | requests: kind, hash, requester, code                   | their sentences, bodies that waited            |
 * | events: name, time, account, fields                     | their other data; in queues too (by the relay) |
 * | the audit: it has no personal data                      | drifts, sentences of roles, old surveys        |
 *
 * A request stays in Redis, with its contents, for an hour after its verdict. Backups, the write-ahead log and Redis'
 * append-only file contain it until they are replaced.
 */
import type { Client } from '../database/connection.ts';

/** Erases the data of a deleted person, and removes their access and memberships. */
export async function erasePerson(client: Pick<Client, 'query'>, person: number): Promise<void> {
  await client.query('DELETE FROM realm_members WHERE person = $1', [person]);
  await client.query('DELETE FROM maintainers WHERE maintainer = $1', [person]);
  await client.query('SELECT erase_person($1)', [person]);
}
