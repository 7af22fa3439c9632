(function () {
  "use strict";
  var root = document.documentElement, key = "zhen.lang", title = "";
  function stored() { try { return localStorage.getItem(key); } catch (error) { return null; } }
  function store(lang) { try { localStorage.setItem(key, lang); } catch (error) { /* only not remembered */ } }
  function wanted() {
    var asked = /[?&#]lang=(zh|en)/.exec(location.search + location.hash);
    var lang = asked ? asked[1] : stored() || navigator.language || "en";
    return lang.slice(0, 2) === "zh" ? "zh" : "en";
  }
  function show(lang) {
    var heading = document.querySelector("title");
    title = title || document.title;
    root.lang = lang;
    document.title = lang === "zh" && heading.dataset.zh ? heading.dataset.zh : title;
  }
  // for browsers in which a style can't open a fold
  function fold(shut, name, value) {
    document.querySelectorAll(shut).forEach(function (each) { each.toggleAttribute(name, value); });
  }
  window.addEventListener("beforeprint", function () {
    fold("details:not([open])", "data-shut", true);
    fold("details", "open", true);
  });
  window.addEventListener("afterprint", function () {
    fold("details[data-shut]", "open", false);
    fold("details", "data-shut", false);
  });
  show(wanted());
  document.addEventListener("DOMContentLoaded", function () {
    var button = document.getElementById("language");
    if (!button) { return; }
    button.hidden = false;
    button.addEventListener("click", function () {
      var lang = root.lang === "zh" ? "en" : "zh";
      store(lang);
      show(lang);
    });
  });
})();
