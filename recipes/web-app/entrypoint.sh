#!/bin/sh
# serve, or any other command.
set -e
if [ "$1" = serve ]; then
  shift
  set -- python3 /app/server.py "$@"
fi
exec "$@"
