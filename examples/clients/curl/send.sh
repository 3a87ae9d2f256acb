#!/bin/sh
# Sends one event, then a batch, with nothing but curl.
#   IMPACT_URL=http://127.0.0.1:8080 IMPACT_KEY=imp_... ./send.sh
set -eu

# Retried: 408, 429, 500, 502, 503, 504, timeouts and a service that is not there. curl waits as long as
# Retry-After says. Sending the same ids again is safe: an event is counted once.
post() {
  curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --retry-max-time 60 \
    --header "Authorization: Bearer $IMPACT_KEY" --header "Content-Type: $1" \
    --data-binary @- "$IMPACT_URL/v1/events"
  echo
}

visit() {
  printf '{"specversion":"1.0","id":"curl-%s","source":"/clinic/examples","type":"clinic.visit.v1",' "$1"
  printf '"time":"2026-01-31T12:00:00Z","subject":"person-%s","data":{"minutes":15,"client":"curl"}}' "$1"
}

visit 1 | post application/cloudevents+json
{ printf '['; visit 2; printf ','; visit 3; printf ']'; } | post application/cloudevents-batch+json
