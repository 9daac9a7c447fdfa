"""Judges HTTP responses by schemas/openapi.json: each line of standard input is one, as JSON

    {"route": "/v1/views", "method": "get", "status": 200, "type": "application/json", "body": "..."}

where "get" may be left out.

Prints what is not as described, a line each; nothing where all is.
"""

import json
import sys

import jsonschema


def response_of(document, route, method, status):
    item = document["paths"].get(route)
    if item is None:
        return None, "the path is not described"
    operation = item.get(method)
    if operation is None:
        return None, "%s is not described" % method
    response = operation["responses"].get(str(status))
    if response is None:
        return None, "status %d is not described" % status
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    return response, None


def fault_of(document, reply):
    response, fault = response_of(
        document, reply["route"], reply.get("method", "get"), reply["status"]
    )
    if fault is not None:
        return fault
    media = reply["type"].split(";")[0]
    content = response.get("content", {})
    if media not in content:
        return "%s is not described for status %d" % (media, reply["status"])
    schema = content[media].get("schema")
    if schema is None or "json" not in media or media == "application/x-ndjson":
        return None
    whole = dict(schema, components=document["components"])
    validator = jsonschema.Draft202012Validator(
        whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    error = next(iter(validator.iter_errors(json.loads(reply["body"]))), None)
    return None if error is None else "%s at %s" % (error.message[:300], list(error.absolute_path))


with open("schemas/openapi.json", encoding="utf-8") as file:
    description = json.load(file)
for number, line in enumerate(sys.stdin, 1):
    verdict = fault_of(description, json.loads(line))
    if verdict is not None:
        print("%d: %s" % (number, verdict))
