import { openRealm } from './realm.ts';
import { openPortal } from './portal.ts';
import { quantile } from './figure.ts';
import { admitMaker } from './idle.ts';
import { runLoad, renderCpu, p95 } from './load.ts';
import { renderProfile } from './cpu-profile.ts';
import { measureFloor } from './floor.ts';
const N=Number(process.argv[2]??300);
const realm = await openRealm('/tmp/h7-dev/t');
const prof='/tmp/h7-dev/prof-'+process.pid;
const work = await realm.startWork(process.argv[3]?{profileDir:prof}:{});
const portal = await openPortal(realm);
try {
await admitMaker(portal);
const f=await measureFloor(realm,N); console.log(f, N/Math.max(...Object.values(f))*1000,'floor tools/s');
const load = await runLoad(realm, portal, work, {count:N, revokes:10, say:console.error});
console.log(renderCpu(load,N)); console.log(N/load.seconds,'tools/s', 'revoke', p95(load.revokeMs), load.revokeMs.map(Math.round).join(), load.plainWriteMs.map(Math.round).join(), load.peakMemoryMib);
await portal.close(); await work.stop();
if (process.argv[3]) console.log(renderProfile(prof));
} finally { await portal.close(); await work.stop(); await realm.close(); }
