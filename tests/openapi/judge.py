"""What an OpenAPI document says of one reply: whether status, type and body are described so."""

import csv
import io
import json

import jsonschema

CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


def resolve(document, item):
    """Follows one reference within the document."""
    if isinstance(item, dict) and "$ref" in item:
        found = document
        for part in item["$ref"].lstrip("#/").split("/"):
            found = found[part]
        return found
    return item


def fault_of_value(document, schema, value):
    whole = dict(schema, components=document["components"])
    validator = jsonschema.Draft202012Validator(whole, format_checker=CHECKER)
    error = next(iter(validator.iter_errors(value)), None)
    if error is None:
        return None
    return "%s at %s" % (error.message[:300], list(error.absolute_path))


def fault_of_body(document, media, content, body):
    schema = content.get("schema")
    if "x-event-data" in content:
        return fault_of_events(document, content["x-event-data"], body)
    if media == "application/x-ndjson":
        lines = body.decode().splitlines()
        if not lines or "receipt" not in json.loads(lines[-1]):
            return "the last line has no receipt"
        rows = {"$ref": "#/components/schemas/Row"}
        faults = (fault_of_value(document, rows, json.loads(line)) for line in lines[:-1])
        return next((fault for fault in faults if fault), None)
    if media == "text/csv":
        rows = list(csv.reader(io.StringIO(body.decode())))
        if not rows or any(len(row) != len(rows[0]) for row in rows):
            return "the lines have different numbers of fields"
        return None
    if schema is None or "json" not in media:
        return None
    return fault_of_value(document, schema, json.loads(body))


def fault_of_events(document, schema, body):
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in lines and lines.get("event") != "problem":
            fault = fault_of_value(document, schema, json.loads(lines["data"]))
            if fault:
                return fault
    return None


def fault_of_headers(document, response, headers):
    for name, header in response.get("headers", {}).items():
        header = resolve(document, header)
        value = headers.get(name)
        if value is None:
            continue
        if "content" in header:
            schema = header["content"]["application/json"]["schema"]
            fault = fault_of_value(document, schema, json.loads(value))
        elif header.get("schema", {}).get("type") == "integer":
            fault = None if value.isdigit() else "is no whole number"
        else:
            fault = None
        if fault:
            return "header %s: %s" % (name, fault)
    return None


def fault_of(document, path, method, status, media, body, headers):
    """None, or what is not as described. `headers` has get(); `media` is without parameters."""
    item = document["paths"].get(path)
    if item is None:
        return "the path is not described"
    operation = item.get(method)
    if operation is None:
        return "%s is not described" % method
    response = resolve(document, operation["responses"].get(str(status)))
    if response is None:
        return "status %d is not described" % status
    if status == 304 or body is None:  # of HEAD, too
        return fault_of_headers(document, response, headers)
    content = response.get("content")
    if content is None:
        return None
    if media not in content:
        return "%s is not described for status %d" % (media, status)
    return fault_of_body(document, media, content[media], body) or fault_of_headers(
        document, response, headers
    )
