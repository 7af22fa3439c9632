// Charts of lines over steps as SVG, in the page's own colours; words come in pairs, English and Chinese.
var ZhenChart = (function () {
  "use strict";
  var SPACE = "http://www.w3.org/2000/svg", TALL = 230, FLAT = 150, LEFT = 46, RIGHT = 8, TOP = 10, BOTTOM = 22;
  var NEAR = 7;  // pixels from which an event is told

  function element(name, attributes, inside) {
    var made = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    (inside || []).forEach(function (each) { made.append(each); });
    return made;
  }
  function say(words) {  // one text, or one for each language
    if (typeof words === "string") { return document.createTextNode(words); }
    var both = document.createDocumentFragment();
    both.append(element("span", { class: "en", lang: "en" }, [words[0]]), element("span", { class: "zh", lang: "zh" }, [words[1]]));
    return both;
  }
  function draw(name, attributes, text) {
    var made = document.createElementNS(SPACE, name);
    Object.keys(attributes).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    if (text !== undefined) { made.textContent = text; }
    return made;
  }

  function short(value, digits) {  // 1234567 -> 1.23M
    var size = Math.abs(value), units = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"], unit = 0;
    if (value === 0) { return "0"; }
    if (size < 1e-4 || size >= 1e27) { return value.toExponential(1).replace("e-", "e−").replace("e+", "e"); }
    while (size >= 999.5 && unit < units.length - 1) { size /= 1000; value /= 1000; unit += 1; }
    return String(Number(value.toPrecision(digits || 3))) + units[unit];
  }
  function lasting(seconds) {
    if (seconds < 60) { return [Math.round(seconds) + " s", Math.round(seconds) + " 秒"]; }
    var minutes = Math.round(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
    if (minutes < 60) { return [minutes + " min", minutes + " 分钟"]; }
    if (hours < 48) { return [hours + " h " + minutes % 60 + " min", hours + " 小时 " + minutes % 60 + " 分"]; }
    return [days + " d " + hours % 24 + " h", days + " 天 " + hours % 24 + " 小时"];
  }

  function ticks(low, high, count) {
    var raw = (high - low) / count, power = Math.pow(10, Math.floor(Math.log10(raw)));
    var step = [1, 2, 2.5, 5, 10].find(function (each) { return each * power >= raw; }) * power;
    var found = [];
    for (var at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) { found.push(at * step); }
    return found;
  }
  function timeTicks(high, count) {
    var units = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800, 2592000];
    var step = units.find(function (each) { return high / each <= count; }) || high;
    var found = [];
    for (var at = 0; at <= high; at += step) { found.push(at); }
    return found;
  }
  function logTicks(low, high) {
    var found = [], first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    for (var power = first; power <= last; power += 1) {
      (last - first > 2 ? [1] : [1, 2, 5]).forEach(function (each) { found.push(each * Math.pow(10, power)); });
    }
    return found.filter(function (at) { return at >= low * 0.999 && at <= high * 1.001; });
  }

  function bounds(spec, from) {  // of what is seen
    var low = Infinity, high = -Infinity;
    spec.series.forEach(function (line) {
      line.x.forEach(function (at, index) {
        [line.y[index], line.raw && line.raw[index], line.low && line.low[index], line.high && line.high[index]].forEach(function (value) {
          if (at < from || value == null || !isFinite(value) || (spec.log && value <= 0)) { return; }
          low = Math.min(low, value); high = Math.max(high, value);
        });
      });
    });
    if (low > high) { return null; }
    if (spec.zero) { low = Math.min(low, 0); }
    if (low === high) { low = spec.log ? low / 2 : low - Math.abs(low) / 2 - 1e-9; high = high * (spec.log ? 2 : 1.5) + 1e-9; }
    var room = (high - low) * 0.04;
    return spec.log ? [low / 1.1, high * 1.1] : [spec.zero ? low : low - room, high + room];
  }
  function path(xs, ys, x, y, from, log) {
    var text = "", open = false;
    xs.forEach(function (at, index) {
      var value = ys[index];
      if (at < from || value == null || !isFinite(value) || (log && value <= 0)) { open = false; return; }
      text += (open ? "L" : "M") + x(at).toFixed(1) + " " + y(value).toFixed(1);
      open = true;
    });
    return text;
  }
  function nearest(xs, at) {
    var low = 0, high = xs.length - 1;
    while (high - low > 1) { var middle = (low + high) >> 1; if (xs[middle] < at) { low = middle; } else { high = middle; } }
    return xs.length && Math.abs(xs[low] - at) <= Math.abs(xs[high] - at) ? low : high;
  }

  function Chart(spec) {
    var self = this;
    this.legend = element("p", { class: "legend" });
    this.readout = element("p", { class: "readout" });
    this.box = element("div");
    this.node = element("figure", { class: "plot", id: spec.id }, [
      element("figcaption", {}, [say(spec.title), element("small", {}, [say(spec.unit)])]), this.legend, this.box, this.readout]);
    this.box.addEventListener("pointermove", function (event) { self.point(event); });
    this.box.addEventListener("pointerdown", function (event) { self.point(event); });
    this.box.addEventListener("pointerleave", function () { self.held = null; self.rest(); });
  }
  Chart.prototype.update = function (spec) {
    this.spec = spec;
    var width = Math.max(this.box.clientWidth, 200), from = spec.range[0], to = spec.range[1];
    var HEIGHT = spec.flat ? FLAT : TALL;
    var around = bounds(spec, from), svg = draw("svg", { viewBox: "0 0 " + width + " " + HEIGHT, height: HEIGHT, role: "img" });
    this.node.hidden = !around;
    if (!around) { return; }
    var scale = spec.log ? Math.log : function (value) { return value; }, low = scale(around[0]), high = scale(around[1]);
    var x = function (at) { return LEFT + (width - LEFT - RIGHT) * (at - from) / (to - from || 1); };
    var y = function (value) { return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (scale(value) - low) / (high - low); };
    this.x = x; this.foot = HEIGHT - BOTTOM; this.width = width; this.svg = svg;
    (spec.log ? logTicks(around[0], around[1]) : ticks(around[0], around[1], 4)).forEach(function (at) {
      svg.append(draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(at), y2: y(at) }));
      svg.append(draw("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, short(at)));
    });
    var count = Math.max(2, Math.floor(width / 90));
    (spec.time ? timeTicks(to, count) : ticks(from, to, count)).forEach(function (at) {
      if (at < from) { return; }
      var anchor = x(at) > width - 25 ? "end" : "middle", text = spec.time ? lasting(at) : [short(at), short(at)];
      svg.append(draw("line", { class: "grid", x1: x(at), x2: x(at), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }));
      ["en", "zh"].forEach(function (lang, index) {
        svg.append(draw("text", { class: lang, x: Math.min(x(at), width - 2), y: HEIGHT - 5, "text-anchor": anchor }, text[index]));
      });
    });
    this.events(svg, x, from);
    spec.series.forEach(function (line) {
      var group = draw("g", { class: "c" + line.colour % 6 });
      if (line.low) {
        var up = path(line.x, line.high, x, y, from, spec.log);
        var down = path(line.x.slice().reverse(), line.low.slice().reverse(), x, y, from, spec.log);
        if (up && up.lastIndexOf("M") === 0) { group.append(draw("path", { class: "band", d: up + down.replace("M", "L") + "Z" })); }
      }
      if (line.raw) { group.append(draw("path", { class: "series faint", d: path(line.x, line.raw, x, y, from, spec.log) })); }
      group.append(draw("path", { class: "series d" + line.dash, d: path(line.x, line.y, x, y, from, spec.log) }));
      var seen = line.x.filter(function (at, index) { return at >= from && line.y[index] != null; });
      if (line.dots || seen.length === 1) {
        line.x.forEach(function (at, index) {
          var value = line.y[index];
          if (at >= from && value != null && (!spec.log || value > 0)) {
            group.append(draw("circle", { cx: x(at), cy: y(value), r: line.dots ? 2.2 : 3.5, fill: "currentColor" }));
          }
        });
      }
      svg.append(group);
    });
    this.rule = draw("line", { class: "rule", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    svg.append(this.rule);
    this.box.replaceChildren(svg);
    this.keys();
    if (this.held) { this.point(this.held); }
  };
  Chart.prototype.events = function (svg, x, from) {
    this.spec.events.forEach(function (event) {
      if (event.x < from || event.x > this.spec.range[1]) { return; }
      var at = x(event.x), small = event.level === "checkpoint";
      var mark = draw("line", { class: "mark " + event.level, x1: at, x2: at, y1: small ? this.foot - 5 : TOP, y2: this.foot });
      svg.append(mark);
      if (!small) { svg.append(draw("circle", { class: "tag " + event.level, cx: at, cy: TOP, r: 3.5 })); }
    }, this);
  };
  Chart.prototype.keys = function () {
    var spec = this.spec;
    this.values = [];
    this.legend.replaceChildren();
    spec.series.forEach(function (line) {
      var value = element("b");
      this.values.push(value);
      this.legend.append(element("span", {}, [element("i", { class: "c" + line.colour % 6 + " d" + line.dash }), say(line.name), value]));
    }, this);
    this.rest();
  };
  Chart.prototype.show = function (pick) {
    this.spec.series.forEach(function (line, number) {
      var index = pick(line), value = line.y[index];
      this.values[number].textContent = value == null ? "" : this.spec.text ? this.spec.text(value) : short(value, 4);
    }, this);
  };
  Chart.prototype.rest = function () {
    if (!this.rule) { return; }
    this.rule.setAttribute("visibility", "hidden");
    this.readout.replaceChildren(say(this.spec.axis));
    this.show(function (line) {
      for (var index = line.y.length - 1; index > 0 && line.y[index] == null; index -= 1) { /* the last that there is */ }
      return index;
    });
  };
  Chart.prototype.point = function (event) {
    if (!this.rule || !this.spec.series.length) { return; }
    this.held = event;
    var frame = this.svg.getBoundingClientRect(), range = this.spec.range, self = this;
    var share = (event.clientX - frame.left - LEFT) / (this.width - LEFT - RIGHT);
    var wanted = range[0] + Math.min(1, Math.max(0, share)) * (range[1] - range[0]);
    var first = this.spec.series[0], at = first.x[nearest(first.x, wanted)];
    this.rule.setAttribute("visibility", "visible");
    this.rule.setAttribute("x1", this.x(at)); this.rule.setAttribute("x2", this.x(at));
    this.show(function (line) { return nearest(line.x, at); });
    var near = this.spec.events.filter(function (each) { return Math.abs(self.x(each.x) - self.x(wanted)) < NEAR; });
    var where = this.spec.time ? lasting(at) : [short(at, 5), short(at, 5)];
    this.readout.replaceChildren(say([this.spec.axis[0] + " " + where[0], this.spec.axis[1] + " " + where[1]]));
    near.slice(0, 3).forEach(function (each) { self.readout.append(" · ", say(each.title)); });
  };

  return { Chart: Chart, element: element, say: say, short: short, lasting: lasting };
})();
