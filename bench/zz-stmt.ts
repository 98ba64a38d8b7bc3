import { openRealm } from './realm.ts';
import { openPortal } from './portal.ts';
import { admitMaker } from './idle.ts';
import { asSuperuser } from '../dev/servers/postgres.ts';
import { startServer, stopServer } from '../dev/servers/daemon.ts';
import { runLoad, renderCpu } from './load.ts';
const N=Number(process.argv[2]);
const realm = await openRealm('/tmp/h7-dev/t', []);
const su=(q:string)=>asSuperuser(realm.stack.postgres,'chamberlain',c=>c.query(q));
await su("ALTER SYSTEM SET shared_preload_libraries='pg_stat_statements'"); await su("ALTER SYSTEM SET pg_stat_statements.track='all'"); await stopServer(realm.stack.postgres); await startServer(realm.stack.postgres);
await su('CREATE EXTENSION pg_stat_statements');
const work = await realm.startWork(); const portal = await openPortal(realm);
try {
 await admitMaker(portal);
 await su('select pg_stat_statements_reset()');
 const waits=new Map<string,number>(); let samples=0;
 const timer=setInterval(()=>{void su("select application_name a, state s, coalesce(wait_event_type||':'||wait_event,'CPU') w from pg_stat_activity where application_name like 'chamberlain %' and state<>'idle'").then(r=>{samples++;for(const x of r.rows as any[]){const k=`${x.a} | ${x.s} | ${x.w}`;waits.set(k,(waits.get(k)??0)+1);}},()=>{});},150);
 const load=await runLoad(realm,portal,work,{count:N,revokes:0,say:()=>{}});
 clearInterval(timer);
 console.log(renderCpu('load',load.cpu,N,load.seconds),load.perTool); console.log((N/load.seconds).toFixed(1),'tools/s', 'mem', load.peakMemoryMib);
 const r=await su("select round((total_exec_time/"+N+")::numeric,3)::float ms, round((calls::numeric/"+N+"),2)::float calls, round(mean_exec_time::numeric,3)::float mean, toplevel, left(regexp_replace(query,'\\s+',' ','g'),110) q from pg_stat_statements order by total_exec_time desc limit 32");
 console.log('ms/tool  calls/tool  mean'); for(const x of r.rows as any[]) console.log(String(x.ms).padStart(7),String(x.calls).padStart(7),String(x.mean).padStart(8),x.toplevel?' ':'>',x.q);
 const t=await su("select sum(total_exec_time)/"+N+" ms, sum(calls)/"+N+" c from pg_stat_statements where toplevel"); console.log(t.rows[0]);
 console.log('active sessions by wait, of',samples,'samples'); for(const [k,n] of [...waits].sort((a,b)=>b[1]-a[1]).slice(0,16)) console.log((n/samples).toFixed(2).padStart(7),k);
} finally { await portal.close(); await work.stop(); await realm.close(); }
