/** tool.create, tool.update, maintainer.add, maintainer.remove */
import { normalName, type ToolName, toolAccount } from '../../identity/names.ts';
import type { RequestOf } from '../schema.ts';
import { noteNewAdmins } from '../admin-keys-table.ts';
import { noteKnown } from '../../credentials/credentials-table.ts';
import { reserveId } from '../../identity/id-allocation-table.ts';
import { findSubjects, type NamedSubject, readNameState } from '../../identity/names-table.ts';
import {
  addMaintainers,
  countAdmins,
  readMaintainers,
  removeMaintainers,
  updateToolTitle,
} from '../../identity/tools-table.ts';
import {
  addersOf,
  decided,
  type RequestContext,
  type Handler,
  refuse,
  requireMaintainedTool,
  requireMaintainers,
  requireNewName,
} from '../context.ts';
import { touchesOfChange, touchesOfEach } from '../../roles/touches.ts';

export const createTool: Handler<RequestOf<'tool.create'>> = async (context) => {
  const { client, config, request, requestedBy, actor, nextToolId } = context;
  if (!actor?.realmMember) {
    refuse(
      'PERSON_NOT_REALM_MEMBER',
      `${requestedBy} does not have access to the realm. Request access first.`,
    );
  }
  const normal = normalName(request.name);
  const named = request.maintainers ?? [];
  const accounts = [...new Set(actor.admin && named.length > 0 ? named : [requestedBy, ...named])];
  // all are sent at once; if the request is refused, the number stays free
  const [state, found, uid] = await Promise.all([
    readNameState(client, toolAccount(config.realm, normal)),
    findSubjects(client, accounts),
    nextToolId ?? reserveId(client, 'tool'),
  ]);
  requireNewName(context, 'tool', request.name, state);
  const name = request.name as ToolName;
  const maintainers = requireMaintainers(accounts, found);
  const uids = maintainers.map((maintainer) => maintainer.uid);
  const account = toolAccount(config.realm, name);
  return decided({ uid, account }, 'tool.ready', {
    newTool: { uid, name, account, title: request.title, maintainers: uids },
    fields: ['name', 'title', 'maintainers'],
    touches: [
      ...touchesOfChange(uid, 'account', 'credentials'),
      ...touchesOfEach(uids, 'memberOf'),
    ],
    data: { tool: name, account, uid },
  });
};

export const updateTool: Handler<RequestOf<'tool.update'>> = async (context) => {
  const { client, request } = context;
  const tool = await requireMaintainedTool(context, request.tool);
  const changed = await updateToolTitle(client, tool.uid, request.title);
  const fields = changed ? ['title'] : [];
  return decided(tool, 'tool.updated', {
    fields,
    touches: [], // the title is stored only in PostgreSQL
    data: { tool: request.tool, fields },
  });
};

export const addMaintainer: Handler<RequestOf<'maintainer.add'>> = async (context) => {
  const { client, config, request } = context;
  const tool = await requireMaintainedTool(context, request.tool);
  const accounts = [...new Set(accountsOf(request))];
  const added = requireMaintainers(accounts, await findSubjects(client, accounts));
  const present = await readMaintainers(client, tool.uid);
  for (const { uid, account, kind } of added) {
    if (uid === tool.uid)
      refuse('NOT_ALLOWED', `The tool ${account} cannot be its own maintainer.`);
    if (present.has(uid)) {
      refuse('MAINTAINER_ALREADY', `${account} is already a maintainer of ${request.tool}.`);
    }
    if (request.tool === config.admin && kind !== 'person') {
      refuse('ADMIN_TOOL', `Only people may maintain the tool ${config.admin}, not ${account}.`);
    }
  }
  await addMaintainers(
    client,
    tool.uid,
    added.map(({ uid }) => uid),
  );
  if (request.tool === config.admin) {
    const people = added.map(({ uid }) => uid);
    await noteNewAdmins(client, config.admin, people, addersOf(context));
  }
  return maintainersChanged(context, tool, 'maintainer.added', added);
};

export const removeMaintainer: Handler<RequestOf<'maintainer.remove'>> = async (context) => {
  const { client, config, request } = context;
  const tool = await requireMaintainedTool(context, request.tool);
  const found = await findSubjects(client, accountsOf(request));
  const present = await readMaintainers(client, tool.uid);
  const removed = [...new Set(accountsOf(request))].map((account) => {
    const subject = found.get(account);
    if (subject === undefined || !present.has(subject.uid)) {
      refuse(
        'MAINTAINER_UNKNOWN',
        `${account} is not a maintainer of ${request.tool}. Check the name.`,
      );
    }
    return subject;
  });
  const uids = removed.map(({ uid }) => uid);
  await noteKnown(client, tool.uid, uids);
  await removeMaintainers(
    client,
    uids.map((maintainer) => ({ tool: tool.uid, maintainer })),
  );
  if (request.tool === config.admin && (await countAdmins(client, config.admin)) === 0) {
    refuse(
      'ADMIN_TOOL',
      `The tool ${config.admin} must keep at least one maintainer who has access and is not suspended. Add another maintainer first.`,
    );
  }
  return maintainersChanged(context, tool, 'maintainer.removed', removed);
};

function accountsOf(request: {
  person?: string | undefined;
  maintainers?: string[] | undefined;
}): string[] {
  return request.maintainers ?? [request.person ?? ''];
}

function maintainersChanged(
  { request }: RequestContext<RequestOf<'maintainer.add' | 'maintainer.remove'>>,
  tool: { uid: number; account: string },
  event: string,
  changed: readonly NamedSubject[],
) {
  return decided(tool, event, {
    each: [tool, ...changed].map(({ uid, account }) => ({ subject: uid, account })),
    fields: [`maintainers of ${tool.account}`],
    touches: [
      ...touchesOfChange(tool.uid, 'members'),
      ...touchesOfEach(
        changed.map(({ uid }) => uid),
        'memberOf',
      ),
    ],
    data: { tool: request.tool, account: tool.account, maintainers: accountsOf(request) },
  });
}
