#!/bin/sh
# Prints a .env for docker-compose.yml with fresh secrets. Once, before the first start:
#
#     (umask 077 && sh deploy/new-env.sh > .env)
#
# Keep IMPACT_PSEUDONYM_KEY: without it the same person gets a new pseudonym and is counted again.
set -eu

secret() { od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'; }

for name in \
  IMPACT_PSEUDONYM_KEY IMPACT_METRICS_TOKEN IMPACT_SESSION_KEY \
  POSTGRES_PASSWORD IMPACT_OWNER_PASSWORD IMPACT_INGEST_PASSWORD IMPACT_READER_PASSWORD IMPACT_REPORTS_PASSWORD \
  GRAFANA_ADMIN_PASSWORD
do
  echo "$name=$(secret)"
done
