/**
 * tool.disable, tool.enable, tool.delete, tool.restore
 *
 *            tool.disable
 *   active ◀──────────────▶ disabled
 *     │ ▲     tool.enable    │    ▲
 *     │ │                    │    │ tool.delete: delete_after = now + the grace time
 *     │ ╰────────────────────┼────┤ tool.enable ends that
 *     ╰──────────────────────┼────╯
 *          tool.delete       │ calendar: delete_after is reached, and
 *                            ▼   portals were notified at least a day ago
 *                        archived ──────────────────────────▶ deleted
 *                          │  ▲   calendar: both archives       │
 *                          │  │   are recorded                  │
 *          tool.enable:    │  ╰─────────────────────────────────╯
 *          returning_at    │    tool.restore, while the archive is kept: returning_at
 *                          ▼
 *                        active    calendar: everything is back
 *
 * | a tool that is    | tool.disable          | tool.enable       | tool.delete     | tool.restore     |
 * | ----------------- | --------------------- | ----------------- | --------------- | ---------------- |
 * | active            | disabled              | TOOL_NOT_DISABLED | to be deleted   | TOOL_NOT_DELETED |
 * | disabled          | TOOL_ALREADY_DISABLED | active            | to be deleted   | TOOL_NOT_DELETED |
 * | to be deleted     | TOOL_ALREADY_DISABLED | active            | TOOL_LEAVING    | TOOL_NOT_DELETED |
 * | archived          | TOOL_LEAVING          | returning         | TOOL_LEAVING    | returning        |
 * | returning         | TOOL_LEAVING          | TOOL_LEAVING      | TOOL_LEAVING    | TOOL_LEAVING     |
 * | deleted           | TOOL_DELETED          | TOOL_DELETED      | TOOL_DELETED    | returning        |
 * | deleted, not kept | TOOL_DELETED          | TOOL_DELETED      | TOOL_DELETED    | TOOL_NOT_KEPT    |
 * | the admin tool    | ADMIN_TOOL            |                   | ADMIN_TOOL      |                  |
 */
import type { RequestOf } from '../schema.ts';
import { DAY_MS, timeOf } from '../../shared/time.ts';
import {
  disableTools,
  findTool,
  openTools,
  readMaintained,
  readMaintainers,
  reviveTool,
  type Tool,
  wantToolDeleted,
} from '../../identity/tools-table.ts';
import {
  decided,
  type RequestContext,
  type Handler,
  type Decision,
  refuse,
  refuseUnknownTool,
  requireAdmin,
  requireMaintainedTool,
  requireMaintainedToolEvenArchived,
} from '../context.ts';
import { eventsForPortals } from '../../events/done.ts';
import { requireNotHeld } from './hold.ts';
import { wantReturn } from './returning.ts';
import { touchesOfChange, touchesOfEveryRole, touchesOfEach } from '../../roles/touches.ts';

export const disableTool: Handler<RequestOf<'tool.disable'>> = async (context) => {
  const { client, request, requestedBy: by, now } = context;
  const tool = await requireMaintainedTool(context, request.tool);
  requireNotAdminTool(context);
  if (tool.state !== 'active') {
    refuse('TOOL_ALREADY_DISABLED', `The tool ${request.tool} is already disabled.`);
  }
  await disableTools(client, [tool.uid], { by, reason: request.reason, now });
  return accessChanged(context, tool, 'tool.disabled', ['state'], { reason: request.reason });
};

export const enableTool: Handler<RequestOf<'tool.enable'>> = async (context) => {
  const tool = await requireMaintainedToolEvenArchived(context, context.request.tool);
  if (tool.state === 'archived') return beginRestore(context, tool);
  if (tool.state !== 'disabled') {
    refuse('TOOL_NOT_DISABLED', `The tool ${context.request.tool} is not disabled.`);
  }
  await openTools(context.client, [tool.uid]);
  const fields = tool.deleteAfter === null ? ['state'] : ['state', 'deletion'];
  return accessChanged(context, tool, 'tool.enabled', fields);
};

export const deleteTool: Handler<RequestOf<'tool.delete'>> = async (context) => {
  const { client, config, request, requestedBy: by, now } = context;
  const tool = await requireMaintainedTool(context, request.tool);
  requireNotAdminTool(context);
  if (tool.deleteAfter !== null) {
    const date = timeOf(tool.deleteAfter);
    refuse(
      'TOOL_LEAVING',
      `The tool ${request.tool} is already going to be deleted, on or after ${date}.`,
    );
  }
  await requireNotHeld(context, tool);
  const days = config.leaving.graceDays;
  const after = new Date(now.getTime() + days * DAY_MS);
  const reason = request.reason === '' ? undefined : request.reason;
  const why = reason ?? 'to be deleted';
  await disableTools(client, [tool.uid], { by, reason: why, now });
  await wantToolDeleted(client, tool.uid, { after, days, now, reason });
  const { account } = tool;
  const fields = ['state', 'deletion'];
  const decision = accessChanged(context, tool, 'tool.disabled', fields, { reason: why });
  return {
    ...decision,
    // at once: a server that is down delays the revoking of access, but not the date
    events: eventsForPortals(config, [context.portal], {
      event: 'tool.deleting',
      subject: tool.uid,
      request: context.id?.jti,
      data: { tool: request.tool, account, days, deleteAfter: after.toISOString() },
    }),
    // no second event for a tool that was disabled before
    onDone: tool.state === 'disabled' ? { ...decision.onDone, each: [] } : decision.onDone,
  };
};

export const restoreTool: Handler<RequestOf<'tool.restore'>> = async (context) => {
  const { client, config, request, actor } = context;
  requireAdmin(context);
  const tool = await findTool(client, request.tool, actor?.uid ?? 0);
  if (tool === undefined) refuseUnknownTool(config, request.tool);
  if (tool.state !== 'archived' && tool.state !== 'deleted') {
    refuse(
      'TOOL_NOT_DELETED',
      tool.state === 'disabled'
        ? `The tool ${request.tool} is disabled, not deleted. To bring it back, enable it (tool.enable).`
        : `The tool ${request.tool} is ${tool.state}, not deleted. There is nothing to restore.`,
    );
  }
  return beginRestore(context, tool);
};

/** Begins the restoring of an archived tool. Its access stays revoked until everything is back. */
async function beginRestore(
  context: RequestContext<{ tool: string }>,
  tool: Tool,
): Promise<Decision> {
  const { client, request } = context;
  const named = `the tool ${request.tool}`;
  await wantReturn(context, { uid: tool.uid, named }, ['TOOL_NOT_KEPT', 'TOOL_LEAVING']);
  await reviveTool(client, tool.uid);
  const wasDeleted = tool.state === 'deleted';
  const [holding, held] = wasDeleted
    ? [await readMaintained(client, tool.uid), await readMaintainers(client, tool.uid)]
    : [[], []];
  return decided(tool, 'tool.returning', {
    fields: wasDeleted ? ['state', 'returning'] : ['returning'],
    touches: [
      // the directory too: the entry of the account must no longer announce the deletion
      ...touchesOfEveryRole(tool.uid),
      // the tool is a member of these groups again
      ...touchesOfEach(holding, 'members'),
      ...touchesOfEach(held, 'memberOf'),
    ],
    data: { tool: request.tool, account: tool.account },
  });
}

function requireNotAdminTool({ config, request }: RequestContext<{ tool: string }>): void {
  if (request.tool !== config.admin) return;
  refuse(
    'ADMIN_TOOL',
    `The tool ${config.admin} makes its maintainers admins. It cannot be disabled or deleted.`,
  );
}

/** The account, the sudo rule and the database account change. The home stays as it is. */
function accessChanged(
  { request }: RequestContext<{ tool: string }>,
  tool: Tool,
  event: string,
  fields: string[],
  data: Record<string, unknown> = {},
): ReturnType<typeof decided> {
  return decided(tool, event, {
    fields,
    touches: touchesOfChange(tool.uid, 'access', 'databaseAccess'),
    data: { tool: request.tool, account: tool.account, ...data },
  });
}
