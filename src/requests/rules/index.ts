/** The rules of each kind, by name. */
import type { RequestKind } from '../kinds.ts';
import type { RequestOf } from '../schema.ts';
import { grantAccess, refuseAccess, requestAccess, revokeAccess } from './access.ts';
import { addAdminKey, revokeKey } from './admin-key.ts';
import { approve, reject } from './approving.ts';
import type { Handler } from '../context.ts';
import { rotateCredentials } from './credentials.ts';
import { ignoreFinding } from './finding.ts';
import { holdSubject, releaseSubject } from './hold.ts';
import { addKey, removeKeyOf } from './key.ts';
import { createPerson, updatePersonFields } from './person.ts';
import { wantPersonErased } from './person-erasing.ts';
import { deletePerson, reinstatePerson, suspendPerson } from './person-leaving.ts';
import { restorePerson } from './person-returning.ts';
import { addPortal, handOver, removePortal, updatePortal } from './portal.ts';
import { runRepair, runSurvey } from './surveying.ts';
import { releaseSweep } from './sweep-releasing.ts';
import { deleteTool, disableTool, enableTool, restoreTool } from './tool-leaving.ts';
import { addMaintainer, createTool, removeMaintainer, updateTool } from './tool.ts';

export const HANDLERS: { [K in RequestKind]: Handler<RequestOf<K>> } = {
  'person.create': createPerson,
  'person.update': updatePersonFields,
  'access.request': requestAccess,
  'access.grant': grantAccess,
  'access.refuse': refuseAccess,
  'access.revoke': revokeAccess,
  'key.add': addKey,
  'key.remove': removeKeyOf,
  'tool.create': createTool,
  'tool.update': updateTool,
  'maintainer.add': addMaintainer,
  'maintainer.remove': removeMaintainer,
  'credentials.rotate': rotateCredentials,
  'person.suspend': suspendPerson,
  'person.reinstate': reinstatePerson,
  'person.delete': deletePerson,
  'person.erase': wantPersonErased,
  'person.restore': restorePerson,
  'tool.disable': disableTool,
  'tool.enable': enableTool,
  'tool.delete': deleteTool,
  'tool.restore': restoreTool,
  'subject.hold': holdSubject,
  'subject.release': releaseSubject,
  'admin-key.add': addAdminKey,
  'admin-key.revoke': revokeKey,
  'portal.add': addPortal,
  'portal.update': updatePortal,
  'portal.remove': removePortal,
  'portal.hand-over': handOver,
  'request.approve': approve,
  'request.reject': reject,
  'survey.run': runSurvey,
  'repair.run': runRepair,
  'sweep.release': releaseSweep,
  'finding.ignore': ignoreFinding,
};
