"""The chat page: Gradio, mounted on the server's own app. Imported only when a page is asked for."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import warnings
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from zhen.errors import ZhenError
from zhen.infer.server.app import Service
from zhen.infer.server.refusals import Refusal
from zhen.infer.server.talk import Said, Talks, Wish
from zhen.infer.server.words import CLOSING, NAMES, WORDS

OPEN_PAGES = 1000
"""Pages that can be open at a time, and answers given to them, before events wait for each other."""
LOOK_SECONDS = 0.25
"""Between two looks at whether the server closes."""
ALIVE_SECONDS = 10.0
"""Between two words to a page that has nothing else to be told: who is gone is found out by them."""
FONTS = ["system-ui", "-apple-system", "Segoe UI", "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]
CSS = """
.gradio-container { width: 100% !important; max-width: 60rem !important; margin: auto; }
footer { display: none !important; }
:has(> #talk) { height: calc(100dvh - 2rem); flex-wrap: nowrap !important; }
#talk { height: auto !important; flex: 1 1 0 !important; min-height: 16rem; }
#notes, #speed { opacity: .7; font-size: .85rem; }
#closing { font-weight: 600; }
@media (max-width: 500px) { .gradio-container { padding: .5rem !important; } }
"""
SCRIPT = Path(__file__).with_name("page.js")

Turns = list[dict[str, str]]


def mount(app: FastAPI, serving: Service) -> FastAPI:
    """The app with the page under /; what was there stays."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    theme = gr.themes.Default(font=FONTS, font_mono=MONO)
    keys = serving.bounds.keys

    def known(_user: str, key: str) -> bool:
        return any(hmac.compare_digest(key.encode(), each.encode()) for each in keys)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mounted: FastAPI = gr.mount_gradio_app(
            app,
            Page(serving).blocks,
            path="/",
            auth=known if keys else None,
            auth_message="API key as password" if keys else None,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            show_error=True,
            theme=theme,
            css=CSS,
            head=f"<script>{_script()}</script>",
            enable_monitoring=False,
            mcp_server=False,
        )
    return mounted


class Page:
    """The page's parts and what happens when they are used.

    Chats, the language and the theme are the browser's own affair (page.js): the server sees the turns of a question
    and keeps none of them.
    """

    def __init__(self, serving: Service) -> None:
        self._served, self._worker, self._talks = serving.served, serving.worker, Talks(serving)
        talk = serving.served.conversation
        self._note = "" if talk.template else "one_turn" if talk.forms else "goes_on"
        with gr.Blocks(title=serving.served.name, analytics_enabled=False, fill_height=True) as self.blocks:
            self._lay_out()
            self._connect()
        self.blocks.max_threads = OPEN_PAGES
        self.blocks.queue(default_concurrency_limit=None, max_size=4 * self._worker.places, api_open=False)

    def _lay_out(self) -> None:
        words, served = WORDS["en"], self._served
        chat, context = served.conversation.template is not None, served.engine.longest
        greedy = bool(served.conversation.forms) and not chat
        with gr.Sidebar(open=False):
            self.language = gr.Radio(list(NAMES), value="English", label=words["language"], elem_id="language")
            self.new = gr.Button(words["new"], elem_id="new")
            self.earlier = gr.Radio([], label=words["earlier"], elem_id="earlier")
            self.system = gr.Textbox("", label=words["system"], lines=2, visible=chat, elem_id="system")
            with gr.Accordion(words["sampling"], open=False, elem_id="sampling") as self.sampling:
                heat = 0.0 if greedy else served.defaults.get("temperature", 0.8)
                top_p = served.defaults.get("top_p", 0.95)
                self.temperature = gr.Slider(0, 2, heat, step=0.05, label=words["temperature"], elem_id="temperature")
                self.top_p = gr.Slider(0.05, 1, top_p, step=0.05, label=words["top_p"], elem_id="top_p")
                longest = min(512, context)
                self.max_tokens = gr.Slider(
                    1, context, longest, step=1, label=words["max_tokens"], elem_id="max_tokens"
                )
                self.seed = gr.Number(None, precision=0, label=words["seed"], elem_id="seed")
            self.dark = gr.Button(words["dark"], elem_id="dark")
            self.forget = gr.Button(words["forget"], variant="stop", elem_id="forget")
        gr.Markdown(f"### {_plain(served.name)}")
        self.talk = gr.Chatbot(
            show_label=False, container=False, editable="user", elem_id="talk", feedback_options=None,
            buttons=["copy"], allow_file_downloads=False, layout="bubble",
        )  # fmt: skip
        self.speed = gr.Markdown("", elem_id="speed")
        self.closing = gr.Markdown("", elem_id="closing")
        with gr.Row():
            self.ask = gr.Textbox(
                placeholder="…", show_label=False, submit_btn=True, autofocus=True, scale=8,
                lines=1, max_lines=8, elem_id="ask",
            )  # fmt: skip
            self.stop = gr.Button(words["stop"], variant="stop", visible=False, scale=1, min_width=80, elem_id="stop")
        self.notes = gr.Markdown(self._notes("en"), elem_id="notes")

    def _connect(self) -> None:
        controls = [self.system, self.temperature, self.top_p, self.max_tokens, self.seed, self.language]
        shown = [self.ask, self.talk, self.speed, self.stop]
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        # first: see _watch
        self.blocks.load(self._watch, None, self.closing, **hidden)
        # before _send: listeners run one after the other, each to its end
        self.ask.submit(None, [self.talk, self.system, self.ask], self.earlier, js="zhen.asked", **hidden)
        for event, call, inputs in (
            (self.ask.submit, self._send, [self.ask, self.talk]),
            (self.talk.retry, self._retry, [self.talk]),
            (self.talk.edit, self._edit, [self.talk]),
        ):
            answer = event(call, [*inputs, *controls], shown, **hidden)
            answer.then(None, [self.talk, self.system], self.earlier, js="zhen.keep", **hidden)
        self.stop.click(self._stop, None, None, queue=False, **hidden)
        self._connect_browser(hidden)

    def _connect_browser(self, hidden: dict[str, Any]) -> None:
        """What happens in the browser alone; before a chat is left its answer is ended."""
        texts = [self.language, self.new, self.earlier, self.system, self.sampling, self.temperature, self.top_p,
                 self.max_tokens, self.seed, self.dark, self.forget, self.ask, self.stop, self.notes]  # fmt: skip
        kept, shown = [self.talk, self.system], [self.talk, self.system, self.earlier, self.speed, self.stop]
        for event, inputs, script in (
            (self.new.click, kept, "zhen.begin"),
            (self.talk.clear, kept, "zhen.begin"),
            (self.earlier.input, [*kept, self.earlier], "zhen.open"),
            (self.forget.click, None, "zhen.forget"),
        ):
            event(self._leave, None, None, **hidden).then(None, inputs, shown, js=script, **hidden)
        self.dark.click(None, js="zhen.dark", **hidden)
        self.language.input(None, self.language, texts, js="zhen.speak", **hidden)
        self.blocks.load(None, None, [self.talk, *texts], js=f"() => zhen.load({self._note!r})", **hidden)
        self.closing.change(None, self.closing, None, js="zhen.back", **hidden)

    async def _watch(self, request: gr.Request) -> AsyncGenerator[Any, None]:
        """Lasts as long as the page is open, and says when the server closes.

        Gradio ends the stream that a page gets its answers by when no event is under way. One that is asked for just
        then is answered to nobody: this event, which is always under way, keeps the stream.
        """
        quiet = 0.0
        try:
            while not self._worker.draining:
                await asyncio.sleep(LOOK_SECONDS)
                quiet += LOOK_SECONDS
                if quiet >= ALIVE_SECONDS:
                    quiet = 0.0
                    yield gr.skip()
            yield CLOSING
            while self._worker.held:
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._talks.stop(str(request.session_hash))

    async def _send(
        self, text: str, turns: Sequence[Any], request: gr.Request, *rest: Any
    ) -> AsyncGenerator[Any, None]:
        if not text.strip():
            yield gr.skip()
            return
        async for update in self._answer([*_turns(turns), {"role": "user", "content": text}], rest, request, text):
            yield update

    async def _retry(
        self, turns: Sequence[Any], request: gr.Request, data: gr.RetryData, *rest: Any
    ) -> AsyncGenerator[Any, None]:
        kept = _turns(turns)[: _place(data.index) + 1]
        while kept and kept[-1]["role"] != "user":
            kept.pop()
        async for update in self._answer(kept, rest, request):
            yield update

    async def _edit(
        self, turns: Sequence[Any], request: gr.Request, data: gr.EditData, *rest: Any
    ) -> AsyncGenerator[Any, None]:
        kept = [*_turns(turns)[: _place(data.index)], {"role": "user", "content": _text(data.value)}]
        async for update in self._answer(kept, rest, request):
            yield update

    async def _answer(
        self, turns: Turns, rest: Sequence[Any], request: gr.Request, text: str = ""
    ) -> AsyncGenerator[Any, None]:
        """Updates of what is shown while an answer comes. `text` is put back where it is refused."""
        system, temperature, top_p, max_tokens, seed, language = rest
        words = WORDS[NAMES[language]]
        wish = Wish(system or "", temperature, top_p, int(max_tokens), None if seed is None else int(seed))
        await self._talks.leave(str(request.session_hash))
        busy = gr.Button(words["stop"], visible=True)
        yield "", turns, "", busy
        said: Said | None = None
        try:
            async for said in self._talks.answer(str(request.session_hash), turns, wish):
                answer = {"role": "assistant", "content": said.text}
                yield gr.skip(), [*turns, answer], _speed(said, words), busy
        except (Refusal, ZhenError) as error:
            message = error.message if isinstance(error, Refusal) else error.text()
            gr.Warning(_plain(message))
        if said is None:
            yield text, turns[:-1], "", gr.Button(visible=False)
        else:
            yield gr.skip(), gr.skip(), gr.skip(), gr.Button(visible=False)

    async def _leave(self, request: gr.Request) -> None:
        await self._talks.leave(str(request.session_hash))

    def _stop(self, request: gr.Request) -> None:
        self._talks.stop(str(request.session_hash))

    def _notes(self, language: str) -> str:
        words = WORDS[language]
        return " ".join(words[name] for name in (self._note, "private") if name)


def _script() -> str:
    """page.js with the words it needs."""
    return (
        SCRIPT.read_text(encoding="utf-8").replace('"WORDS"', json.dumps(WORDS)).replace('"NAMES"', json.dumps(NAMES))
    )


def _turns(shown: Sequence[Any]) -> Turns:
    """What a chat shows, as roles and texts."""
    return [{"role": turn["role"], "content": _text(turn["content"])} for turn in shown]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return str(content.get("text", ""))
    return "".join(_text(part) for part in content or [])


def _place(index: int | Sequence[int]) -> int:
    return index if isinstance(index, int) else index[0]


def _plain(text: str) -> str:
    """Text that no Markdown or HTML is read in."""
    return "".join(f"&#{ord(char)};" if not (char.isalnum() or char in " .,:;-()") else char for char in text)


def _speed(said: Said, words: dict[str, str]) -> str:
    rate = (said.tokens - 1) / said.seconds if said.seconds > 0 and said.tokens > 1 else 0.0
    line = words["speed"].format(tokens=said.tokens, rate=rate, first=said.first)
    return line + (words["forgotten"] if said.forgotten else "") + (words["stopped"] if said.stopped else "")
