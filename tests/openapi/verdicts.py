"""Judges HTTP replies by schemas/openapi.json: each line of standard input is one, as JSON

    {"route": "/v1/views", "method": "get", "status": 200, "type": "application/json", "body": "..."}

where "get" may be left out. Prints what is not as described, a line each; nothing where all is.
"""

import json
import sys

import judge

with open("schemas/openapi.json", encoding="utf-8") as file:
    description = json.load(file)
for number, line in enumerate(sys.stdin, 1):
    reply = json.loads(line)
    verdict = judge.fault_of(
        description, reply["route"], reply.get("method", "get"), reply["status"],
        reply["type"].split(";")[0], reply["body"].encode(), {},
    )
    if verdict is not None:
        print("%d: %s" % (number, verdict))
