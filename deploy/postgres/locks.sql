-- Leaves advisory locks to the owner: any login of the database could else hold the locks of the workers, and
-- so stop all work. The functions that release locks stay everybody's: they release one's own alone. Nor does
-- anybody else make large objects, by which any login could fill the disk without a right to any table.
-- Run by PostgreSQL's superuser in our database, once; pg_dump and copies keep it.
DO $$
DECLARE
  takes regprocedure;
BEGIN
  FOR takes IN
    SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
      AND proname ~ '^(pg_(try_)?advisory_(xact_)?lock(_shared)?|lo_(creat|create|from_bytea))$'
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', takes);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO chamberlain', takes);
  END LOOP;
END $$;
