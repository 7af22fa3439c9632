"""The one chat template, ChatML: what tuning, chat, the server and every tuned checkpoint's files take it from."""

from __future__ import annotations

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
"""Ids 6 and 7 in the tokenizers made here, as in Yi's."""

ROLES = ("system", "user", "assistant", "tool")

CHATML = """\
{%- for message in messages %}
{%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}
{{- raise_exception('no such role: ' + message.role) }}
{%- endif %}
{%- endfor %}
{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' %}
{%- if tools %}
{{- '<|im_start|>system\\n' + (system + '\\n' if system else '') + '<tools>\\n' }}
{%- for tool in tools %}
{{- tool | tojson + '\\n' }}
{%- endfor %}
{{- '</tools><|im_end|>\\n' }}
{%- elif system %}
{{- '<|im_start|>system\\n' + system + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if not (loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{%- set call = call.function or call %}
{{- ('\\n' if message.content or not loop.first else '') + '<tool_call>\\n' }}
{{- {'name': call.name, 'arguments': call.arguments} | tojson + '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""ChatML as Yi's chat models have it: `<|im_start|>role`, a line's end, the text, `<|im_end|>`, a line's end; no
default system prompt. Tools and calls of them stand there as in Hermes' form (`<tools>`, `<tool_call>` around JSON),
which servers know how to read."""
