/**
 * Requests: the schema of each kind, and the signed claims that carry them.
 *
 * A job is `{"token": "<compact JWS>"}`: a JWT (RFC 7519) signed with EdDSA (RFC 8037) whose claims
 * are iss (the portal), aud (the realm), jti (a UUID), iat, exp, sub (who approved) and `request`.
 */
import * as z from 'zod';
import { isDisplayName, NEW_SHELL_NAME, NEW_TOOL_NAME } from '../identity/names.ts';
import { portalFields, portalParts, redisPasswordSha256 } from '../shared/portal-fields.ts';
import { schemaWords } from '../shared/schema-words.ts';
import type { RequestKind } from './kinds.ts';

/** A job whose JSON is larger than this, in bytes, is refused without being read. */
export const MAX_JOB_BYTES = 64 * 1024;
/** The longest time for which a token may be valid. */
export const MAX_TOKEN_LIFE_SECONDS = 7 * 24 * 3600;
/** The largest difference allowed between the clocks of a portal and of intake. */
export const CLOCK_SKEW_SECONDS = 60;

/**
 * A name in a request: a shell name, or a tool's account such as `tools.bridgebot`. The pattern is wide enough for
 * imported names. The rules check whether the name exists.
 */
const name = z
  .string()
  .min(1)
  .max(64)
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
    'a name may contain only letters, digits, dots, dashes and underscores',
  );
/** A new name. The JSON Schema has the pattern; the rules check it, and refuse it with a code of its own. */
const newName = (pattern: RegExp, description: string) =>
  z.string().min(1).max(255).meta({ pattern: pattern.source, description });
const person = name.describe('the shell name of a person');
const tool = name.describe('the name of a tool, without the prefix of the realm');
const reason = z
  .string()
  .trim()
  .max(1000)
  .regex(/^(?:[\n\t]|[^\p{Cc}\p{Cs}])*$/u, 'a reason must not contain control characters')
  .describe('the reason, for the people who read it later');
const displayName = z
  .string()
  .refine(
    isDisplayName,
    'a display name must have 1 to 85 printable characters, with only single spaces between words',
  )
  .describe('the name that others see; unique, regardless of case');
const email = z
  .string()
  .max(254)
  .regex(
    // the attribute mail is an IA5 string (RFC 4524, section 2.16)
    /^(?=[!-~]+$)[^@<>"\\,;:()[\]]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/,
    'this is not a mail address of ASCII characters',
  )
  .describe('one mail address');
const title = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .regex(
    /^(?=.*[^\p{Z}\p{Default_Ignorable_Code_Point}\u2800])[^\p{C}\p{Zl}\p{Zp}]+$/u,
    'a title must be one line of printable characters',
  )
  .describe('what the tool is, in one line');
const key = z
  .string()
  .min(1)
  .max(20_000)
  .describe('a public SSH key in one line, as in a .pub file');
const label = z
  .string()
  .max(255)
  .regex(/^[^\p{C}\p{Zl}\p{Zp}]*$/u, 'a label must be printable');
const fingerprint = z
  .string()
  .regex(/^SHA256:[A-Za-z0-9+/]{43}$/, 'a fingerprint must look as ssh-keygen -l prints it')
  .describe('the fingerprint of the key, as ssh-keygen -l prints it');
const people = z.array(name).min(1).max(1000).optional();
const maintainers = z
  .array(name)
  .min(1)
  .max(100)
  .describe('shell names, or accounts of tools such as tools.bridgebot');

const time = z.iso
  .datetime({ offset: true, error: 'this must be a time, such as 2026-12-31T12:00:00Z' })
  .refine(
    isKeepable,
    'a time must be in the years 1 to 9999 of UTC, with an offset of at most 15:59',
  );
const mailVerifiedAt = time
  .optional()
  .describe(
    'when the person showed that they read mail at that address; only from an admin, or a portal with `verifiesMail`',
  );
const waiting = z.uuid().describe('the `jti` of the waiting request');
const sentBy = z
  .string()
  .min(1)
  .max(63)
  .optional()
  .describe(
    'the portal that sent the request; needed if requests of several portals wait under this id',
  );

/** For a rule over several fields: checked even if a field is wrong, so that all problems are reported at once. */
const always = (message: string) => ({ message, when: () => true });

const digest = (of: string) =>
  z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'a digest must have 64 hex digits')
    .describe(of);
/** What a survey looks at. */
const scope = {
  subjects: z
    .array(name)
    .min(1)
    .max(1000)
    .optional()
    .describe('shell names, or accounts of tools such as tools.bridgebot; by default everything'),
  role: name.optional().describe('ask only this role'),
  target: name.optional().describe('look only at this target'),
};

/** A person or a tool. */
const subject = { person: person.optional(), tool: tool.optional() };

const requestedBy = z.object({
  requestedBy: person.describe('the shell name of the actor: the person who asks'),
});

/** One schema for each kind; `chamberlain schema KIND` prints it as JSON Schema. */
export const REQUEST_SCHEMAS = {
  'person.create': kind('person.create', {
    shellName: newName(NEW_SHELL_NAME, 'the unix name; it can never be changed'),
    displayName,
    email,
    mailVerifiedAt,
    key: key.optional(),
  }),
  'person.update': kind('person.update', {
    person,
    displayName: displayName.optional(),
    email: email.optional(),
    verifiedEmail: email
      .optional()
      .describe(
        'the verified address, if it is not new; refused if the person has another one by now',
      ),
    mailVerifiedAt,
  })
    .refine(
      (r) => [r.displayName, r.email, r.verifiedEmail].some((field) => field !== undefined),
      always('the request must have displayName, email or verifiedEmail'),
    )
    .refine(
      (r) =>
        r.mailVerifiedAt === undefined
          ? r.verifiedEmail === undefined
          : (r.email === undefined) !== (r.verifiedEmail === undefined),
      always(
        'mailVerifiedAt and the address that was verified go together: a new one as email, or the present one as verifiedEmail',
      ),
    ),
  'access.request': kind('access.request', {
    person: person.optional().describe('the shell name of a person; the actor by default'),
    reason: reason.default(''),
  }),
  'access.grant': kind('access.grant', { person, reason: reason.default('') }),
  'access.refuse': kind('access.refuse', { person, reason: reason.min(1) }),
  'access.revoke': kind('access.revoke', { person, reason: reason.default('') }),
  'key.add': kind('key.add', {
    person,
    key,
    label: label.optional().describe('a name for the key; its comment by default'),
    expiresAt: time.optional().describe('when the key expires, such as 2026-12-31T12:00:00Z'),
  }),
  'key.remove': kind('key.remove', {
    person,
    key: key.optional(),
    fingerprint: fingerprint.optional(),
  }).refine(...exactlyOne('key', 'fingerprint')),
  'tool.create': kind('tool.create', {
    name: newName(
      NEW_TOOL_NAME,
      'the name of the tool, without the prefix of the realm; it can never be changed',
    ),
    title,
    maintainers: maintainers
      .optional()
      .describe('maintainers besides the actor; an admin who names some does not become one'),
  }),
  'tool.update': kind('tool.update', { tool, title }),
  'maintainer.add': maintainerChange('maintainer.add'),
  'maintainer.remove': maintainerChange('maintainer.remove'),
  'credentials.rotate': kind('credentials.rotate', {
    tool: tool.optional(),
    person: person.optional(),
    server: name
      .optional()
      .describe(
        'the name of a database server: changes the password of every account on it; only for admins',
      ),
    atOnce: z
      .boolean()
      .default(false)
      .describe(
        'end the old password and its connections as soon as the new one works; by default both work for a while (if two passwords already work, the older of them ends)',
      ),
  }).refine(...exactlyOne('tool', 'person', 'server')),
  'person.suspend': kind('person.suspend', {
    person: person.optional(),
    people: people.describe(
      'the shell names of several people; a suspension that ends before the time in `until` is extended; other people who are already suspended are left as they are',
    ),
    reason: reason.min(1),
    until: time
      .optional()
      .describe(
        'when the suspension ends, such as 2026-12-31T12:00:00Z; by default an admin must reinstate the person',
      ),
  }).refine(...exactlyOne('person', 'people')),
  'person.reinstate': kind('person.reinstate', {
    person: person.optional(),
    people: people.describe(
      'the shell names of several people; those who are not suspended are left as they are',
    ),
    reason: reason.default(''),
  }).refine(...exactlyOne('person', 'people')),
  'person.delete': kind('person.delete', { person, reason: reason.default('') }),
  'person.erase': kind('person.erase', { person, reason: reason.default('') }),
  'person.restore': kind('person.restore', {
    person,
    displayName: displayName
      .optional()
      .describe('the name that others see; needed if it was erased with the person'),
    email: email.optional().describe('one mail address; needed if it was erased with the person'),
  }),
  'tool.disable': kind('tool.disable', { tool, reason: reason.min(1) }),
  'tool.enable': kind('tool.enable', { tool }),
  'tool.delete': kind('tool.delete', { tool, reason: reason.default('') }),
  'tool.restore': kind('tool.restore', { tool }),
  'subject.hold': kind('subject.hold', {
    ...subject,
    reason: reason.min(1),
    until: time.describe('when the hold ends, such as 2026-12-31T12:00:00Z'),
  }).refine(...exactlyOne('person', 'tool')),
  'subject.release': kind('subject.release', {
    ...subject,
    reason: reason.default(''),
  }).refine(...exactlyOne('person', 'tool')),
  'admin-key.add': kind('admin-key.add', {
    person: person.optional().describe('the admin who gets the key; the actor by default'),
    publicKey: z
      .string()
      .min(1)
      .max(20_000)
      .describe('the public half of an Ed25519 key: a line as in a .pub file, or PEM'),
    label: label.min(1).describe('where the key is, for the admins who read it later'),
    expiresAt: time.describe('when the key expires, such as 2027-12-31T12:00:00Z'),
  }),
  'admin-key.revoke': kind('admin-key.revoke', { fingerprint, reason: reason.default('') }),
  'portal.add': kind('portal.add', {
    ...portalFields,
    events: z.prefault(portalParts.events, 'http'),
    redisPasswordSha256: z.optional(redisPasswordSha256),
    reason: reason.default(''),
  }),
  'portal.update': kind('portal.update', {
    name: portalParts.name,
    keys: z.optional(portalParts.keys),
    kinds: z.optional(portalParts.kinds),
    subjectEvents: z.optional(portalParts.subjectEvents),
    speaksForAdmins: z.optional(portalParts.speaksForAdmins),
    verifiesMail: z.optional(portalParts.verifiesMail),
    reads: z.optional(portalParts.reads),
    mostCallsPerMinute: z.optional(portalParts.mostCallsPerMinute),
    redisPasswordSha256: z.optional(redisPasswordSha256),
    reason: reason.default(''),
  }),
  'portal.remove': kind('portal.remove', {
    name: portalParts.name,
    reason: reason.default(''),
  }),
  'portal.hand-over': kind('portal.hand-over', {
    name: portalParts.name,
    to: name.describe('the portal that gets the events'),
    reason: reason.default(''),
  }),
  'request.approve': kind('request.approve', { request: waiting, sentBy }),
  'request.reject': kind('request.reject', {
    request: waiting,
    sentBy,
    reason: reason.min(1),
  }),
  'survey.run': kind('survey.run', scope),
  'repair.run': kind('repair.run', {
    ...scope,
    digest: digest('the digest of the plan that you have seen, of the same subjects'),
  }),
  'sweep.release': kind('sweep.release', {
    digest: digest('the digest of the sweep that is held'),
  }),
  'finding.ignore': kind('finding.ignore', {
    ...subject,
    target: name.describe('the target that the finding is of, such as home-directory'),
    code: name.describe('the code of the finding'),
    object: z
      .string()
      .min(1)
      .max(4096)
      .optional()
      .describe('the object that the finding names; needed if several have that code'),
    reason: reason.default(''),
    until: time
      .optional()
      .describe('when it counts again, such as 2026-12-31T12:00:00Z; by default when it changes'),
    end: z.boolean().default(false).describe('let it count again from now on'),
  })
    .refine(...exactlyOne('person', 'tool'))
    .refine(({ end, reason: why }) => end || why !== '', always('the request must have a reason')),
} as const satisfies Record<RequestKind, z.ZodType>;

/** A checked request of one kind. */
export type RequestOf<K extends RequestKind> = z.infer<(typeof REQUEST_SCHEMAS)[K]>;
export type Request = { [K in RequestKind]: RequestOf<K> }[RequestKind];

/** Checks a body against the schema of its kind. Returns the request, or every problem that the schema finds. */
export function parseRequest(
  of: RequestKind,
  body: Record<string, unknown>,
): { request: Request } | { problems: string[] } {
  const result = REQUEST_SCHEMAS[of].safeParse(body, { error: schemaWords });
  if (result.success) return { request: result.data };
  const problems = result.error.issues.map(({ path, message }) => {
    const [field] = path;
    if (field === undefined) return message;
    const given = path.length === 1 ? body[String(field)] : message;
    if (given === undefined) return `${String(field)} is missing`;
    return given === '' ? `${String(field)} is empty` : `${path.join('.')}: ${message}`;
  });
  return { problems: [...new Set(problems)] };
}

/** The claims of a token whose signature is good. */
export const CLAIMS = z.object({
  iss: z.string(),
  aud: z.string(),
  jti: z.uuid().transform((text) => text.toLowerCase()),
  iat: z.int(),
  exp: z.int(),
  sub: person.describe('the person who approved; the actor if nobody else did'),
  request: z.record(z.string(), z.unknown()),
  check: z
    .literal(true)
    .optional()
    .describe('only says what the verdict would be now: the request is never carried out'),
});
export type Claims = z.infer<typeof CLAIMS>;

/** The longest time for which the token of a call of the API may be valid. */
export const MAX_CALL_LIFE_SECONDS = 300;

/** The claims of a token for one call of the API, as in RFC 9449: `htm` is the method, `htu` the path with the query. */
export const CALL_CLAIMS = z.object({
  iss: z.string(),
  aud: z.string(),
  jti: z.string().min(1).max(128),
  iat: z.int(),
  exp: z.int(),
  htm: z.string(),
  htu: z.string(),
});

/** Whether PostgreSQL can keep a time: as it is written, and as JavaScript writes it in UTC. Says nothing of other texts. */
function isKeepable(text: string): boolean {
  if (Number.isNaN(Date.parse(text))) return true;
  const year = new Date(text).getUTCFullYear();
  const hours = Number(/[+-](\d\d):?\d\d$/u.exec(text.slice('YYYY-MM-DD'.length))?.[1] ?? 0);
  return year >= 1 && year <= 9999 && hours <= 15;
}

function kind<K extends string, S extends z.ZodRawShape>(of: K, shape: S) {
  return z.strictObject({ kind: z.literal(of), ...requestedBy.shape, ...shape });
}

/** The arguments of `refine`: a request has exactly one of these fields. */
function exactlyOne(...fields: [string, string, ...string[]]) {
  const has = (r: object) =>
    fields.filter((field) => r[field as keyof typeof r] !== undefined).length === 1;
  const names = `${fields.slice(0, -1).join(', ')} and ${fields.at(-1)}`;
  return [has, always(`the request must have exactly one of ${names}`)] as const;
}

function maintainerChange<K extends string>(of: K) {
  return kind(of, {
    tool,
    person: person.optional(),
    maintainers: maintainers.optional(),
  }).refine(...exactlyOne('person', 'maintainers'));
}
