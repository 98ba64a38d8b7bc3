/** The kinds of request. Few commands need the schemas, which take a command's start 18 ms to build. */

/** One line of description each. */
export const KIND_SUMMARIES = {
  'person.create': 'create a person',
  'person.update': 'change the display name or mail address of a person',
  'access.request': 'request access to the realm for a person; an admin decides',
  'access.grant': 'give a person access to the realm, whether requested or not',
  'access.refuse': 'refuse a request for access, with a reason',
  'access.revoke': "revoke a person's access to the realm",
  'key.add': 'add a public SSH key to a person',
  'key.remove': 'remove a key: name the key or its fingerprint',
  'tool.create': 'create a tool: account, group, home, database credentials',
  'tool.update': 'change the title of a tool',
  'maintainer.add': 'add one or more maintainers to a tool',
  'maintainer.remove': 'remove one or more maintainers from a tool',
  'credentials.rotate': 'make new database passwords: name a tool, a person or a server',
  'person.suspend': 'revoke all access of one or more people until they are reinstated',
  'person.reinstate': 'give one or more suspended people all their access back',
  'person.delete': 'archive and delete a person after the grace time; an admin must approve',
  'person.erase':
    'erase a suspended person for good, with all archives; another admin must approve',
  'person.restore': 'restore a deleted person from the archives, without keys',
  'tool.disable': 'revoke all access of a tool, and end what runs as it; its data stays',
  'tool.enable': 'enable a disabled tool, or cancel its planned deletion',
  'tool.delete': 'disable a tool, and archive and delete it after the grace time',
  'tool.restore': 'restore a deleted tool from its archives',
  'subject.hold': 'prevent the deletion of a person or tool until a given time',
  'subject.release': 'lift a hold',
  'admin-key.add': 'give an admin a key of their own; another admin must approve',
  'admin-key.revoke': "revoke an admin's own key for good: name its fingerprint",
  'portal.add': 'add a portal; another admin must approve',
  'portal.update':
    'change what a portal may do, or its keys; another admin must approve more rights',
  'portal.remove': 'remove a portal that was added by request',
  'portal.hand-over':
    'give another portal the events that a removed portal has not taken; another admin must approve',
  'request.approve': 'approve a waiting request: name its id',
  'request.reject': 'reject a waiting request, with a reason',
  'survey.run': 'survey some subjects, or everything; changes nothing',
  'repair.run': 'have the roles take the steps of a plan: name its digest',
  'sweep.release': 'release a held sweep: name its digest',
  'finding.ignore':
    'ignore a finding, with a reason, so that it does not count; or stop ignoring it',
} as const;

export type RequestKind = keyof typeof KIND_SUMMARIES;
export const REQUEST_KINDS = Object.keys(KIND_SUMMARIES) as RequestKind[];

/** Whether a text is the name of a kind. */
export function isKind(text: string): text is RequestKind {
  return Object.hasOwn(KIND_SUMMARIES, text);
}

/** The kinds that take access away. The urgent queue accepts only these. */
export const URGENT_KINDS: ReadonlySet<RequestKind> = new Set<RequestKind>([
  'access.revoke',
  'admin-key.revoke',
  'key.remove',
  'maintainer.remove',
  'person.suspend',
  'portal.remove',
  'portal.update',
  'tool.delete',
  'tool.disable',
]);
