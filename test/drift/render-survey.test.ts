/** What an admin sees of a survey is golden text: groups, worst first. */
import { expect, test } from '@jest/globals';
import type { Finding, Step } from '../../src/reconcile/plan.ts';
import { countSurvey, renderSurvey } from '../../src/drift/render-survey.ts';
import { mergeReports, type Report } from '../../src/reconcile/report.ts';
import { groupSurvey } from '../../src/drift/survey-groups.ts';
import { expectGolden } from '../golden.ts';

const NOTHING: Report = { steps: [], findings: [], waiting: [], unreadable: [], subjects: 0 };

function step(account: string, subject: number, rest: Partial<Step>): Step {
  return {
    target: 'unix-group',
    subject,
    account,
    object: `cn=${account},ou=servicegroups`,
    effect: 'create',
    change: 'absent → present',
    because: 'it does not exist',
    action: { verb: 'ldap.add', entry: `toolGroups/cn=${account}`, attributes: {} },
    ...rest,
  };
}

function finding(account: string, subject: number, rest: Partial<Finding>): Finding {
  return {
    target: 'home-directory',
    subject,
    account,
    object: `/home/${account}`,
    code: 'PATH_FOREIGN',
    sentence: `There is a symbolic link where a directory of uid ${subject} should be. Move it away.`,
    ...rest,
  };
}

const seen = { ino: 1, uid: 50_000, gid: 50_000, mode: 0o777 };

const DIRECTORY: Report = {
  ...NOTHING,
  subjects: 14,
  steps: [
    step('tools.wikibot', 50_002, {
      effect: 'revoke',
      change: 'member −uid=mallory,ou=people',
      because: 'it has extra values in member',
      action: {
        verb: 'ldap.modify',
        entry: 'toolGroups/cn=tools.wikibot',
        expect: {},
        changes: [{ attribute: 'member', remove: ['people/uid=mallory'], add: [] }],
      },
    }),
    ...Array.from({ length: 7 }, (_, n) => step(`tools.gone-${n}`, 50_010 + n, {})),
    step('tools.retired', 50_020, {
      effect: 'destroy',
      change: 'present → absent',
      because: 'the tool is deleted',
      action: { verb: 'ldap.delete', entry: 'toolGroups/cn=tools.retired', expect: {} },
    }),
    step('alice', 1001, {
      target: 'unix-account',
      object: 'uid=alice,ou=people',
      effect: 'change',
      change: 'sn x → Alice A.; loginShell /bin/sh\u001b[2J → /bin/bash',
      because: 'it differs in sn, loginShell',
      action: {
        verb: 'ldap.modify',
        entry: 'people/uid=alice',
        expect: {},
        changes: [
          { attribute: 'sn', remove: ['x'], add: ['Alice A.'] },
          { attribute: 'loginShell', remove: ['/bin/sh\u001b[2J'], add: ['/bin/bash'] },
        ],
      },
    }),
  ],
  findings: [
    finding('tools.wikibot', 50_002, {
      target: 'unix-group',
      object: 'cn=tools.other,ou=servicegroups',
      code: 'ID_FOREIGN',
      sentence:
        'cn=tools.other,ou=servicegroups (gidNumber 50002) is not managed by Chamberlain, but has the number of ' +
        'cn=tools.wikibot,ou=servicegroups (gidNumber 50002): give it another number, or remove it',
    }),
  ],
};

const HOMES: Report = {
  ...NOTHING,
  subjects: 14,
  steps: [
    step('tools.bridgebot', 50_001, {
      target: 'home-directory',
      object: '/data/project/bridgebot/logs',
      effect: 'revoke',
      change: 'mode 0777 → 2775',
      because: 'the mode differs',
      action: {
        verb: 'path.chmod',
        home: { area: 'toolHomes', name: 'bridgebot' },
        folder: 'logs',
        seen,
        mode: 0o2775,
      },
    }),
    step('tools.bridgebot', 50_001, {
      target: 'home-directory',
      object: '/data/project/bridgebot/logs',
      effect: 'change',
      change: 'default ACL → group rwx',
      because: 'the group could not write to new files in it',
      action: {
        verb: 'path.setAcl',
        home: { area: 'toolHomes', name: 'bridgebot' },
        folder: 'logs',
        seen,
      },
    }),
  ],
  findings: [finding('alice', 1001, {}), finding('bob', 1002, {})],
};

const DATABASES: Report = {
  ...NOTHING,
  subjects: 14,
  steps: [50_001, 50_002].map((uid) =>
    step(uid === 50_001 ? 'tools.bridgebot' : 'tools.wikibot', uid, {
      target: 'database-account',
      object: `s${uid} on toolsdb`,
      because: 'it does not exist',
      action: {
        verb: 'db.createUser',
        server: 'toolsdb',
        user: `s${uid}`,
        uid,
        epoch: 1,
        overlaps: false,
        maxUserConnections: 10,
        locked: false,
        grants: [],
      },
    }),
  ),
  findings: ['alice', 'bob', 'carol', 'dave', 'eve', 'frank'].map((account, index) =>
    finding(account, 1001 + index, {
      target: 'database-account',
      object: "''@localhost on replica",
      code: 'DATABASE_FOREIGN',
      sentence: 'MariaDB may use this anonymous account for connections from localhost. Drop it.',
      advisory: true,
    }),
  ),
  waiting: [
    {
      target: 'database-account',
      subject: 1009,
      account: 'zoe',
      sentence: 'waits for the role homes',
    },
  ],
  unreadable: [
    ...['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name, index) => ({
      target: 'database-account',
      subject: 50_030 + index,
      account: `tools.${name}`,
      sentence: 'replica does not answer',
    })),
    { target: 'homes', sentence: 'no answer within 30 s' },
  ],
};

const ALL = mergeReports([DIRECTORY, HOMES, DATABASES]);

test('a survey is shown in groups, worst first, each with its count and its first few', () => {
  expectGolden('survey.txt', renderSurvey(ALL));
});

test('a reason that leaves several targets unread is shown once', () => {
  const away = 'reading all of dc=example,dc=org: no answer in 3000 ms';
  const unreadable = ['unix-group', 'seal', 'unix-account'].map((target) => ({
    target,
    sentence: away,
  }));
  expect(renderSurvey({ ...NOTHING, unreadable })).toBe(
    'UNREADABLE: seal, unix-account, unix-group (could not be read, so its state is unknown)\n' +
      `  ${away}\n\n0 subjects checked: something is UNREADABLE`,
  );
});

test('a survey that found nothing says so', () => {
  expectGolden('survey-nothing.txt', renderSurvey({ ...NOTHING, subjects: 40_000 }));
});

test('findings that block no step are not said to block one', () => {
  const render = (...kinds: ('blocks' | 'advisory')[]) =>
    renderSurvey({
      ...NOTHING,
      findings: kinds.map((kind, n) => ({
        ...finding('alice', 1001, kind === 'advisory' ? { advisory: true } : {}),
        object: `/home/alice/${n}`,
      })),
    });
  const decide = 'An admin must decide on the findings.';
  const until = `${decide} Until then, no step of the same target changes the objects that they name`;
  expect(render('blocks')).toMatch(new RegExp(`\n${until}\\.$`, 'u'));
  expect(render('blocks')).not.toContain('no step. ');
  expect(render('advisory')).toMatch(new RegExp(`\n${decide}$`, 'u'));
  expect(render('advisory')).toContain(': 1 finding; it blocks no step. ');
  expect(render('advisory', 'advisory')).toContain('; they block no step. ');
  expect(render('blocks', 'advisory')).toMatch(
    new RegExp(`\n${until}, unless the heading says that they block no step\\.$`, 'u'),
  );
});

test('headings are marked for readers, and text that others wrote does not control a terminal', () => {
  const text = renderSurvey(ALL, (heading) => `\u001b[1m${heading}\u001b[22m`);
  expect(text).toContain('\u001b[1mUNREADABLE: homes');
  // eslint-disable-next-line no-control-regex
  expect(text.match(/\u001b\[[^m]*m/gu)).toHaveLength(2 * groupSurvey(ALL).length);
  expect(text).toContain('/bin/sh?[2J');
});

test('each step, finding and unreadable is in one group, and counted once', () => {
  const groups = groupSurvey(ALL);
  const count = (kind: string) =>
    groups.filter((group) => group.kind === kind).reduce((sum, group) => sum + group.count, 0);
  expect(count('drift')).toBe(ALL.steps.length);
  expect(count('finding') + count('advisory')).toBe(ALL.findings.length);
  expect(count('unreadable')).toBe(ALL.unreadable.length);
  expect(countSurvey(ALL)).toEqual({
    subjects: 14,
    drifts: 14,
    accounts: 11,
    revoke: 2,
    destroy: 1,
    create: 9,
    change: 2,
    findings: 9,
    waiting: 1,
    unreadable: 8,
  });
});

test('the order of groups and items does not depend on which role answered first', () => {
  const shuffled = mergeReports([
    ...[DIRECTORY, HOMES, DATABASES].map((report) => ({
      ...report,
      findings: report.findings.toReversed(),
      waiting: report.waiting.toReversed(),
      unreadable: report.unreadable.toReversed(),
    })),
  ]);
  expect(renderSurvey(shuffled)).toBe(renderSurvey(ALL));
});

test('100,000 drifts are rendered quickly', () => {
  const many: Report = {
    ...NOTHING,
    subjects: 100_000,
    steps: Array.from({ length: 100_000 }, (_, n) => step(`tools.t${n}`, 50_000 + n, {})),
    findings: Array.from({ length: 100_000 }, (_, n) => finding(`p${n}`, 1000 + n, {})),
  };
  const start = process.cpuUsage();
  const text = renderSurvey(mergeReports([many]));
  expect(process.cpuUsage(start).user / 1000).toBeLessThan(4000);
  expect(text.split('\n').length).toBeLessThan(30);
});
