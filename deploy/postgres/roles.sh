#!/bin/sh
# Runs once, on an empty data folder. Four logins, each with what its work needs; `impact migrate` grants the
# rest when it has made the tables: to impact_ingest the keys, to impact_reader the views, to impact_reports both,
# and the journal of partners' files, which is all that it writes.
set -eu

psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --set=owner_password="$IMPACT_OWNER_PASSWORD" \
  --set=ingest_password="$IMPACT_INGEST_PASSWORD" \
  --set=reader_password="$IMPACT_READER_PASSWORD" \
  --set=reports_password="$IMPACT_REPORTS_PASSWORD" \
  --set=database="$POSTGRES_DB" <<'SQL'
CREATE ROLE impact_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE impact_ingest LOGIN PASSWORD :'ingest_password';
CREATE ROLE impact_reader LOGIN PASSWORD :'reader_password';
CREATE ROLE impact_reports LOGIN PASSWORD :'reports_password';
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE :"database" TO impact_owner;
GRANT CONNECT ON DATABASE :"database" TO impact_ingest, impact_reader, impact_reports;
ALTER ROLE impact_reader SET default_transaction_read_only = on;
ALTER ROLE impact_reports SET default_transaction_read_only = on;
ALTER ROLE impact_reader SET search_path = impact;
SQL
