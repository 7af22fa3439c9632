// What the chat page does in the browser alone: it remembers chats, speaks the language chosen, keeps the theme.
// Each function takes and returns what page.py lists for it; what is left undefined stays as it is.
window.zhen = (() => {
  "use strict";
  const WORDS_OF = "WORDS", NAMES_OF = "NAMES";
  const CHATS = "zhen-chats", HERE = "zhen-chat", LANGUAGE = "zhen-language", DARK = "zhen-dark";
  const KEPT = 50; // chats that are remembered
  const TITLE = 24; // characters of a chat's first message that name it
  const AGAIN = 2000; // milliseconds between two looks at whether a server that closed is back
  let note = "";

  // a browser may refuse to remember: then nothing is remembered, and all else goes on
  const recall = (store, key) => { try { return store().getItem(key); } catch { return null; } };
  const remember = (store, key, value) => {
    try { store().setItem(key, value); return true; } catch { return false; }
  };
  const lasting = () => localStorage, here = () => sessionStorage;

  const update = (values) => ({ __type__: "update", ...values });
  const text = (content) =>
    typeof content === "string" ? content : Array.isArray(content) ? content.map(text).join("") : content?.text ?? "";

  const chats = () => {
    try { return JSON.parse(recall(lasting, CHATS)) ?? []; } catch { return []; }
  };
  const write = (kept) => {
    while (!remember(lasting, CHATS, JSON.stringify(kept)) && kept.length) kept.pop(); // the oldest make room
  };
  const current = () => chats().find((chat) => chat.id === recall(here, HERE));
  const language = () =>
    recall(lasting, LANGUAGE) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
  const listed = (more) =>
    update({ choices: chats().map((chat) => [chat.title, chat.id]), value: recall(here, HERE), ...more });

  const keep = (talk, system) => {
    if (!talk?.length) return [];
    const turns = talk.map((turn) => ({ role: turn.role, content: text(turn.content) }));
    const id = recall(here, HERE) || `${Date.now()}-${Math.random()}`;
    remember(here, HERE, id);
    const title = turns[0].content.trim().slice(0, TITLE) || "…";
    write([{ id, title, turns, system }, ...chats().filter((chat) => chat.id !== id)].slice(0, KEPT));
    return [listed()];
  };
  const said = (chat) =>
    (chat?.turns ?? []).map((turn) => ({
      role: turn.role, content: [{ type: "text", text: turn.content }], metadata: null, options: null,
    }));
  const shown = (chat, system) => [said(chat), system, listed(), "", update({ visible: false })];
  const texts = (code) => {
    const words = WORDS_OF[code];
    const name = Object.keys(NAMES_OF).find((each) => NAMES_OF[each] === code);
    const labels = ["system", "sampling", "temperature", "top_p", "max_tokens", "seed"];
    return [
      update({ label: words.language, value: name }), words.new, listed({ label: words.earlier }),
      ...labels.map((each) => update({ label: words[each] })),
      words.dark, words.forget, update({ placeholder: words.ask }), words.stop,
      [note, "private"].filter(Boolean).map((each) => words[each]).join(" "),
    ];
  };

  return {
    keep,
    asked: (talk, system, ask) =>
      ask.trim() ? keep([...(talk ?? []), { role: "user", content: ask }], system) : [],
    begin: (talk, system) => {
      keep(talk, system);
      remember(here, HERE, "");
      return shown();
    },
    open: (talk, system, wanted) => {
      keep(talk, system);
      remember(here, HERE, wanted);
      return shown(current(), current()?.system ?? "");
    },
    forget: () => {
      write([]);
      remember(here, HERE, "");
      return shown();
    },
    speak: (name) => {
      remember(lasting, LANGUAGE, NAMES_OF[name]);
      return texts(NAMES_OF[name]);
    },
    dark: () => {
      remember(lasting, DARK, document.body.classList.toggle("dark") ? "1" : "0");
      return [];
    },
    load: (noted) => {
      note = noted;
      const dark = recall(lasting, DARK);
      if (dark !== null) document.body.classList.toggle("dark", dark === "1");
      const [name, begin, earlier, system, ...rest] = texts(language());
      const found = current();
      return [said(found), name, begin, earlier, { ...system, value: found?.system ?? "" }, ...rest];
    },
    back: (closing) => {
      // when the server is back its page may be another; what is being written is not thrown away
      const look = async () => {
        const answer = await fetch("health").catch(() => null);
        if (answer?.ok && !document.querySelector("#ask textarea").value) location.reload();
      };
      if (closing) setInterval(look, AGAIN);
      return [];
    },
  };
})();
