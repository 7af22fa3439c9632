"""Forms that an answer must keep to: JSON, a schema, a call of a tool; as grammars of the engine."""

from __future__ import annotations

import json
from typing import Any

from zhen.infer.requests import Grammar
from zhen.infer.server.calls import BEGIN, END
from zhen.infer.server.refusals import Refusal
from zhen.infer.server.wire import ChatBody, Tool

SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON on one line, as `json.dumps` and the chat template write it: small models get lost in free white space."""

MOST_BYTES = 65_536
"""Of a schema: what is made of it is made between two steps, while all others wait."""


def grammar_of(body: ChatBody) -> Grammar | None:
    """The form that a chat's answer must have. Raises Refusal for one that contradicts itself."""
    call = _call(body)
    given = body.response_format
    if given is None or given.type == "text":
        return call
    if call is not None:
        raise Refusal(400, "an answer is a call or has a form of its own", code="invalid_value", param="tool_choice")
    if given.type == "json_object":
        return Grammar("json", _text({"type": "object"}, "response_format"))
    if given.json_schema is None or given.json_schema.schema_ is None:
        raise Refusal(400, "json_schema.schema is missing", code="invalid_value", param="response_format")
    return Grammar("json", _text(given.json_schema.schema_, "response_format"))


def _call(body: ChatBody) -> Grammar | None:
    """The form of a call, where one is demanded: of the tool named, or of any."""
    if body.tool_choice in (None, "none", "auto"):
        return None
    tools = body.tools or []
    if not isinstance(body.tool_choice, str) and body.tool_choice is not None:
        wanted = body.tool_choice.function.name
        tools = [tool for tool in tools if tool.function.name == wanted]
    if not tools:
        raise Refusal(400, "no such tool is given", code="invalid_value", param="tool_choice")
    schemas = [_schema(tool) for tool in tools]
    text = _text(schemas[0] if len(schemas) == 1 else {"anyOf": schemas}, "tools")
    return Grammar("lark", f'start: "{BEGIN}\\n" call "\\n{END}"\ncall: %json {text}\n')


def _schema(tool: Tool) -> dict[str, Any]:
    function = tool.function
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": function.parameters or {"type": "object"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _text(schema: dict[str, Any], param: str) -> str:
    text = json.dumps({**schema, "x-guidance": SPACING}, ensure_ascii=False)
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise Refusal(400, f"a schema of more than {MOST_BYTES:,} bytes", code="too_large", param=param)
    return text
