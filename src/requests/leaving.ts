/** person.suspend, person.reinstate, person.delete, tool.disable, tool.enable, tool.delete, tool.restore, request.approve, request.reject */
import type { RequestOf } from '../model/request.ts';
import { type Decide, refuse } from './asking.ts';

const notYet: Decide<unknown> = () => refuse('INTERNAL', 'not built');

export const suspendPerson: Decide<RequestOf<'person.suspend'>> = notYet;
export const reinstatePerson: Decide<RequestOf<'person.reinstate'>> = notYet;
export const deletePerson: Decide<RequestOf<'person.delete'>> = notYet;
export const disableTool: Decide<RequestOf<'tool.disable'>> = notYet;
export const enableTool: Decide<RequestOf<'tool.enable'>> = notYet;
export const deleteTool: Decide<RequestOf<'tool.delete'>> = notYet;
export const restoreTool: Decide<RequestOf<'tool.restore'>> = notYet;
export const approve: Decide<RequestOf<'request.approve'>> = notYet;
export const reject: Decide<RequestOf<'request.reject'>> = notYet;
