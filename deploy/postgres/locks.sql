-- Reserves advisory locks for the owner: otherwise any login of the database could hold the locks of the
-- workers, and so stop all work. Everybody may still call the functions that release locks, because they
-- release only the caller's own. Large objects are reserved, too: with them, any login could fill the disk
-- without a right to any table. To be run once in our database by PostgreSQL's superuser; pg_dump and copies
-- keep it.
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
