// What the page shows of the runs: it asks its server for what it lacks, or has everything inside.
(function () {
  "use strict";
  var element = ZhenChart.element, say = ZhenChart.say, short = ZhenChart.short, lasting = ZhenChart.lasting;
  var EVERY = 1000, HIDDEN = 10000, SMOOTH = 60;
  var names = { en: ["English", "英文"], zh: ["Chinese", "中文"], embedding: ["embedding", "嵌入"], attention: ["attention", "注意力"],
    feed_forward: ["feed-forward", "前馈"], norms: ["norms", "归一化"], head: ["head", "输出层"], memory: ["this process", "本进程"],
    memory_available: ["free in the machine", "机器可用"], gpu_memory: ["GPU", "显存"], loss: ["loss", "损失"],
    learning_rate: ["learning rate", "学习率"], gradient_norm: ["gradient norm", "梯度范数"],
    tokens_per_second: ["tokens/s", "词元/秒"], mfu: ["MFU", "算力利用率"], disk_free: ["free", "可用"],
    pretrain: ["pretrain", "预训练"], extend: ["extend", "加长上下文"], tune: ["tune", "微调"] };
  var states = { running: ["running", "进行中"], finished: ["finished", "已完成"], stopped: ["stopped", "已停止"],
    failed: ["failed", "失败"], silent: ["silent: nothing was written for a while", "无动静：已有一段时间没有写入"],
    gone: ["gone: its process has ended", "进程已消失"] };
  var kinds = { checkpoint: ["checkpoint", "检查点", "checkpoint"], started: ["started", "启动", "restart"],
    resumed: ["resumed", "续训", "restart"], stopped: ["stopped", "停止", "restart"], finished: ["finished", "完成", "plain"],
    failed: ["failed", "失败", "trouble"], slow: ["slow", "变慢", "trouble"], hang: ["hang", "卡住", "trouble"],
    spike: ["spike", "尖峰", "trouble"], skipped: ["skipped", "跳过", "trouble"], rewind: ["rewind", "回退", "trouble"],
    mismatch: ["computed twice, two results", "重算结果不一致", "trouble"], "slow-host": ["slow host", "主机偏慢", "trouble"],
    clocks: ["clocks apart", "时钟不一致", "plain"], host: ["host", "主机", "plain"], "disk-low": ["disk nearly full", "磁盘将满", "trouble"],
    "checkpoint-damaged": ["checkpoint damaged", "检查点损坏", "trouble"], capped: ["source used up", "来源用尽", "plain"],
    cut: ["dialogues cut", "对话截短", "plain"], "too-long": ["dialogues too long", "对话过长", "plain"],
    faulty: ["faulty records", "有误的记录", "plain"], "not-pairs": ["dialogues without a pair", "不成对的对话", "plain"],
    "damaged-metrics": ["damaged rows left out", "损坏的行已略去", "trouble"],
    repeated: ["source repeated", "来源重复", "plain"] };
  var percent = function (value) { return short(value * 100) + " %"; };
  var bytes = function (value) { return short(value).replace(/([kMGTP]?)$/, " $1B"); };
  var plots = [
    { heading: ["Learning", "学习"] },
    { id: "loss", table: "train", keys: ["loss"], title: ["Loss", "损失"], unit: ["nats, each update on its own tokens", "奈特，各次更新在其自身词元上"], smooth: true },
    { id: "bits", table: "held_out", title: ["Held-out text", "留出文本"], unit: ["bits per byte, lower is better", "每字节比特数，越低越好"], dots: true },
    { id: "rate", table: "train", keys: ["learning_rate"], title: ["Learning rate", "学习率"], unit: ["", ""], zero: true },
    { id: "gradient", table: "train", keys: ["gradient_norm"], title: ["Gradient norm", "梯度范数"], unit: ["before clipping", "裁剪之前"], log: true },
    { heading: ["Inside the model", "模型内部"] },
    { id: "gradients", table: "groups", part: "gradient_norm", title: ["Gradient norm by group", "各组梯度范数"], unit: ["before clipping", "裁剪之前"], log: true },
    { id: "weights", table: "groups", part: "weight_rms", title: ["Weights", "权重"], unit: ["root mean square", "均方根"], log: true },
    { id: "activations", table: "groups", part: "activation_rms", title: ["Activations", "激活值"], unit: ["root mean square of outputs", "输出的均方根"], log: true },
    { heading: ["Speed and machine", "速度与机器"] },
    { id: "speed", table: "train", keys: ["tokens_per_second"], title: ["Speed", "速度"], unit: ["tokens per second", "词元/秒"], zero: true },
    { id: "mfu", table: "train", keys: ["mfu"], title: ["MFU", "算力利用率"], unit: ["share of the fastest matrix product", "占最快矩阵乘的比例"], zero: true, text: percent },
    { id: "memory", table: "machine", keys: ["memory", "gpu_memory", "memory_available"], title: ["Memory", "内存"], unit: ["bytes", "字节"], zero: true, text: bytes },
    { id: "disk", table: "machine", keys: ["disk_free"], title: ["Disk", "磁盘"], unit: ["bytes free", "可用字节"], zero: true, text: bytes }
  ];
  var axes = { step: ["steps", "步"], tokens: ["tokens", "词元"], flops: ["FLOPs", "浮点运算"], time: ["time trained", "训练时间"] };
  var shares = { all: ["all", "全部"], half: ["last half", "后一半"], tenth: ["last tenth", "后十分之一"] };
  var chosen = { axis: "step", share: "all", stage: "" };
  var runs = [], held = {}, drawn = {}, layout = "";
  var place = function (id) { return document.getElementById(id); };

  function merge(table, found) {
    var fresh = !table || table.generation !== found.generation || found.from !== table.count;
    var made = fresh ? { columns: {}, count: 0 } : table;
    Object.keys(found.columns).forEach(function (name) {
      var column = made.columns[name] = made.columns[name] || new Array(made.count).fill(null);
      found.columns[name].forEach(function (value) { column.push(value); });
    });
    made.generation = found.generation; made.count = found.count; made.tail = found.tail;
    return made;
  }
  function take(data) {
    runs = data.runs.map(function (run) {
      run.stages = run.stages.map(function (found) {
        var stage = held[found.id] = held[found.id] || { tables: {}, events: { rows: [] }, samples: { version: -1, rows: [] } };
        ["id", "stage", "state", "given", "facts", "folder"].forEach(function (name) { stage[name] = found[name]; });
        Object.keys(found.tables).forEach(function (name) { stage.tables[name] = merge(stage.tables[name], found.tables[name]); });
        if (found.events.from === 0 || found.events.generation !== stage.events.generation) { stage.events.rows = []; }
        stage.events.rows = stage.events.rows.concat(found.events.rows);
        stage.events.generation = found.events.generation;
        if (found.samples) { stage.samples = found.samples; }
        return stage;
      });
      return run;
    });
    show();
  }
  function known() {
    var given = {};
    Object.keys(held).forEach(function (id) {
      var stage = held[id], one = given[id] = { events: [stage.events.generation, stage.events.rows.length], samples: stage.samples.version };
      Object.keys(stage.tables).forEach(function (name) { one[name] = [stage.tables[name].generation, stage.tables[name].count]; });
    });
    return given;
  }

  function column(table, name) {
    var values = (table.columns[name] || new Array(table.count).fill(null)).slice();
    if (table.tail && "step" in table.tail) { values.push(name in table.tail ? table.tail[name] : null); }
    return values;
  }
  function elapsedAt(stage, step) {
    var steps = column(stage.tables.train, "step"), times = column(stage.tables.train, "elapsed");
    var index = steps.findIndex(function (each) { return each >= step; });
    return index < 0 ? times[times.length - 1] || 0 : times[index];
  }
  function along(stage, step, elapsed) {  // where a step stands on the axis
    if (chosen.axis === "time") { return elapsed === undefined ? elapsedAt(stage, step) : elapsed; }
    var tokens = step * (stage.given.tokens_per_step || 0);
    return chosen.axis === "step" ? step : chosen.axis === "tokens" ? tokens : tokens * (stage.given.flops_per_token || 0);
  }
  function smoothed(values) {  // means over a window around each
    var half = Math.round(values.length / SMOOTH / 2), sum = 0, count = 0, ahead = 0, behind = 0;
    return values.map(function (_, index) {
      for (; ahead <= Math.min(index + half, values.length - 1); ahead += 1) { if (values[ahead] != null) { sum += values[ahead]; count += 1; } }
      for (; behind < index - half; behind += 1) { if (values[behind] != null) { sum -= values[behind]; count -= 1; } }
      return count ? sum / count : null;
    });
  }
  function naming(key) { return names[key] || key; }

  function keysOf(plot, stages) {
    if (plot.keys) { return plot.keys; }
    var found = [];
    stages.forEach(function (each) {
      var table = each.stage.tables[plot.table];
      Object.keys(table.columns).concat(Object.keys(table.tail)).forEach(function (name) {
        if (name === "step" || name === "elapsed" || found.includes(name) || (plot.part && !name.startsWith(plot.part + "."))) { return; }
        found.push(name);
      });
    });
    return found;
  }
  function series(plot, keys, stages) {
    var lines = [];
    stages.forEach(function (each) {
      var table = each.stage.tables[plot.table], steps = column(table, "step"), elapsed = column(table, "elapsed");
      var xs = steps.map(function (step, index) { return along(each.stage, step, elapsed[index]); });
      keys.forEach(function (key, number) {
        var ys = column(table, key), word = naming(key.slice(key.indexOf(".") + 1)), one = stages.length === 1;
        if (ys.every(function (value) { return value == null; })) { return; }
        var full = one ? word : keys.length === 1 ? each.name : [each.name + " " + [].concat(word)[0], each.name + " " + [].concat(word).pop()];
        var line = { name: full, colour: one ? number : each.number, dash: one ? 0 : number % 3, x: xs, y: ys, dots: plot.dots };
        if (key + ".low" in table.columns && table.count < each.stage.facts.step) { line.low = column(table, key + ".low"); line.high = column(table, key + ".high"); }
        if (plot.smooth) { line.raw = ys; line.y = smoothed(ys); }
        lines.push(line);
      });
    });
    return lines;
  }
  function marks(stages) {
    var found = [];
    stages.forEach(function (each, order) {
      each.stage.events.rows.forEach(function (event) {
        var words = kinds[event.kind] || [event.kind, event.kind, "plain"];
        if (event.step == null || words[2] === "plain" || (event.kind === "started" && !event.step)) { return; }
        if (words[2] === "checkpoint" && order) { return; }
        found.push({ x: along(each.stage, event.step), level: words[2], title: [words[0] + " " + event.step, words[1] + " " + event.step] });
      });
    });
    return found.length > 600 ? found.filter(function (each) { return each.level !== "checkpoint"; }) : found;
  }

  function stagesShown() {
    var all = [];
    runs.forEach(function (run) { run.stages.forEach(function (stage) { if (!all.includes(stage.stage)) { all.push(stage.stage); } }); });
    if (!all.includes(chosen.stage)) { chosen.stage = ""; }
    var wanted = chosen.stage || all[all.length - 1];
    var found = [];
    runs.forEach(function (run, number) {
      run.stages.forEach(function (stage) { if (stage.stage === wanted) { found.push({ name: run.name, number: number, stage: stage }); } });
    });
    return { all: all, wanted: wanted, found: found };
  }
  function show() {
    var stages = stagesShown();
    tell(stages);
    controls(stages);
    charts(stages.found);
    events(stages.found);
    samples(stages.found);
  }

  function controls(stages) {
    var wanted = stages.all.length > 1 ? stages.all.join() : "";
    if (place("controls").dataset.made === wanted) { return; }
    place("controls").dataset.made = wanted;
    function choice(name, options) {
      return element("fieldset", {}, Object.keys(options).map(function (value) {
        var input = element("input", { type: "radio", name: name, value: value });
        input.checked = (chosen[name] || stages.wanted) === value;
        input.addEventListener("change", function () { chosen[name] = value; show(); });
        return element("label", {}, [input, say(options[value])]);
      }));
    }
    var parts = [choice("axis", axes), choice("share", shares)];
    if (wanted) {
      var options = {};
      stages.all.forEach(function (name) { options[name] = naming(name); });
      parts.unshift(choice("stage", options));
    }
    place("controls").replaceChildren.apply(place("controls"), parts);
  }

  function charts(stages) {
    var wanted = [];
    plots.forEach(function (plot) {
      if (plot.heading) { wanted.push(plot); return; }
      var keys = keysOf(plot, stages), apart = plot.part && stages.length > 1;
      (apart ? keys.map(function (key) { return [key]; }) : [keys]).forEach(function (some) {
        var spec = Object.assign({}, plot, { lines: series(plot, some, stages) });
        if (apart) {
          var word = [].concat(naming(some[0].slice(some[0].indexOf(".") + 1)));
          spec.flat = true;
          spec.id += "-" + some[0].split(".")[1];
          spec.title = [plot.title[0] + ": " + word[0], plot.title[1] + "：" + word[word.length - 1]];
        }
        if (spec.lines.length) { wanted.push(spec); }
      });
    });
    wanted = wanted.filter(function (each, index) { return !each.heading || (wanted[index + 1] && !wanted[index + 1].heading); });
    var now = JSON.stringify(wanted.map(function (each) { return each.id || each.heading; }));
    if (now !== layout) {
      layout = now; drawn = {};
      place("charts").replaceChildren.apply(place("charts"), wanted.map(function (each) {
        if (each.heading) { return element("h2", {}, [say(each.heading)]); }
        return (drawn[each.id] = new ZhenChart.Chart(each)).node;
      }));
    }
    var end = 0, events = marks(stages);
    wanted.forEach(function (each) { (each.lines || []).forEach(function (line) { end = Math.max(end, line.x[line.x.length - 1] || 0); }); });
    var from = { all: 0, half: end / 2, tenth: end * 0.9 }[chosen.share];
    wanted.forEach(function (each) {
      if (!each.heading) {
        drawn[each.id].update(Object.assign(each, { series: each.lines, events: events, range: [from, end || 1], axis: axes[chosen.axis], time: chosen.axis === "time" }));
      }
    });
  }

  function tell(stages) {
    var parts = [];
    runs.forEach(function (run, number) {
      var each = stages.found.find(function (one) { return one.number === number; }), stage = each && each.stage;
      var state = stage ? states[stage.state] : run.working ? ["at the stage " + run.working + "; nothing is trained yet", "正在 " + run.working + " 阶段，尚未训练"] : ["nothing is trained yet", "尚未训练"];
      var line = [element("b", {}, [runs.length > 1 ? run.name : ""]), element("span", { class: "state " + (stage ? stage.state : "") }, [say(state)])];
      if (runs.length > 1) { line.unshift(element("i", { class: "dot c" + number % 6 })); }
      if (stage) { line.push(element("span", { class: "state" }, [stage.folder])); }
      parts.push(element("p", { class: "run" + (runs.length > 1 ? " legend" : "") }, line));
      if (stage) { parts.push.apply(parts, numbers(stage)); }
    });
    place("runs").replaceChildren.apply(place("runs"), parts);
  }
  function numbers(stage) {
    var facts = stage.facts, machine = facts.machine || {}, total = stage.given.steps, rows = [], parts = [];
    function tile(label, value) { rows.push(element("div", {}, [element("dt", {}, [say(label)]), element("dd", {}, [say(value)])])); }
    if (facts.step !== undefined) {
      var whole = facts.step.toLocaleString("en") + (total ? " / " + total.toLocaleString("en") : "");
      tile(["step", "步"], whole);
      if (facts.loss != null) { tile(["loss, last 20", "损失，近 20 步"], facts.loss.toFixed(3)); }
    }
    Object.keys(facts.bits || {}).forEach(function (lang) {
      var word = [].concat(naming(lang));
      tile(["bits/byte, " + word[0], "每字节比特，" + word[word.length - 1]], facts.bits[lang].toFixed(3));
    });
    if (facts.rate != null) { tile(["tokens/s", "词元/秒"], short(facts.rate)); }
    if (facts.mfu != null) { tile(["MFU", "算力利用率"], percent(facts.mfu)); }
    if (stage.state === "running" && facts.left !== undefined) { tile(["time left", "剩余时间"], lasting(facts.left)); }
    if (facts.step !== undefined) { tile(["trained for", "已训练"], lasting(facts.elapsed)); }
    if (machine.memory !== undefined) { tile(["memory", "内存"], bytes(machine.memory)); }
    if (machine.gpu_memory !== undefined) { tile(["GPU memory", "显存"], bytes(machine.gpu_memory)); }
    if (machine.disk_free !== undefined) { tile(["disk free", "磁盘可用"], bytes(machine.disk_free)); }
    if (machine.processes !== undefined) { tile(["processes; load", "进程数；负载"], machine.processes + "; " + machine.load.toFixed(1)); }
    if (total) {
      var bar = element("span");
      bar.style.width = 100 * Math.min(1, (facts.step || 0) / total) + "%";
      parts.push(element("div", { class: "progress" }, [bar]));
    }
    parts.push(element("dl", { class: "tiles" }, rows));
    facts.errors.concat(facts.unreadable ? [["lines that can't be read: " + facts.unreadable, "无法读取的行：" + facts.unreadable]] : []).forEach(function (trouble) {
      parts.push(element("p", { class: "state failed" }, [say(trouble)]));
    });
    return parts;
  }

  function events(stages) {
    var rows = [], count = 0;
    stages.forEach(function (each) {
      var saved = 0;
      count += each.stage.events.rows.length;
      each.stage.events.rows.slice().reverse().forEach(function (event) {
        if (event.kind === "checkpoint" && (saved += 1) > 3) { return; }
        rows.push({ name: each.name, event: event });
      });
    });
    var now = stages.map(function (each) { return each.stage.id; }).join() + count;
    if (place("events").dataset.made === now) { return; }
    place("events").dataset.made = now;
    rows.sort(function (a, b) { return a.event.time < b.event.time ? 1 : a.event.time > b.event.time ? -1 : 0; });
    var lines = rows.slice(0, 200).map(function (row) {
      var event = row.event, words = kinds[event.kind] || [event.kind, event.kind, ""];
      var rest = Object.keys(event).filter(function (key) { return !["time", "kind", "step", "data"].includes(key); });
      var text = rest.map(function (key) { return key === "found" ? event[key] : key.replaceAll("_", " ") + " " + (typeof event[key] === "number" ? short(event[key], 4) : event[key]); }).join(", ");
      var cells = [element("td", { class: words[2] }, [say(words.slice(0, 2))]), element("td", { class: "number" }, [event.step == null ? "" : event.step.toLocaleString("en")]),
        element("td", { class: "when" }, [String(event.time).replace("T", " ").replace("+00:00", " UTC")]), element("td", {}, [text])];
      if (stages.length > 1) { cells.unshift(element("td", {}, [row.name])); }
      return element("tr", {}, cells);
    });
    var heads = [["event", "事件"], ["step", "步"], ["time", "时间"], ["", ""]];
    if (stages.length > 1) { heads.unshift(["run", "运行"]); }
    place("events").replaceChildren();
    if (lines.length) {
      place("events").append(element("h2", {}, [say(["Events", "事件"])]), element("div", { class: "wide" }, [element("table", {}, [
        element("thead", {}, [element("tr", {}, heads.map(function (head) { return element("th", {}, [say(head)]); }))]), element("tbody", {}, lines)])]));
    }
  }

  function samples(stages) {
    var now = stages.map(function (each) { return each.stage.id + each.stage.samples.version; }).join();
    if (place("samples").dataset.made === now) { return; }
    place("samples").dataset.made = now;
    place("samples").replaceChildren();
    var groups = new Map();
    stages.forEach(function (each) {
      each.stage.samples.rows.forEach(function (row) {
        var key = row.lang + " " + row.prompt;
        groups.set(key, (groups.get(key) || []).concat([{ name: stages.length > 1 ? each.name + " · " : "", row: row }]));
      });
    });
    if (!groups.size) { return; }
    place("samples").append(element("h2", {}, [say(["Samples", "样例"])]));
    groups.forEach(function (rows) {
      function entry(each) {
        return element("div", {}, [element("dt", {}, [say([each.name + "step " + each.row.step, each.name + "第 " + each.row.step + " 步"])]), element("dd", {}, [each.row.continuation || "–"])]);
      }
      rows.sort(function (a, b) { return b.row.step - a.row.step; });
      var first = rows.slice(0, stages.length), older = rows.slice(stages.length);
      var parts = [element("p", { class: "prompt" }, [rows[0].row.prompt]), element("dl", {}, first.map(entry))];
      if (older.length) { parts.push(element("details", {}, [element("summary", {}, [say(["earlier", "更早"])]), element("dl", {}, older.map(entry))])); }
      place("samples").append(element("figure", { class: "excerpt", lang: rows[0].row.lang || "" }, parts));
    });
  }

  function ask() {
    fetch("data?known=" + encodeURIComponent(JSON.stringify(known()))).then(function (answer) {
      if (!answer.ok) { throw new Error(answer.status); }
      return answer.json();
    }).then(function (data) { place("gone").hidden = true; take(data); }).catch(function () {
      place("gone").hidden = false;
      place("gone").replaceChildren(say(["zhen watch does not answer; asking again", "zhen watch 没有回应，正在重试"]));
    }).finally(function () { setTimeout(ask, document.hidden ? HIDDEN : EVERY); });
  }
  var inside = place("data"), waiting = 0;
  window.addEventListener("resize", function () { clearTimeout(waiting); waiting = setTimeout(show, 100); });
  if (inside) { take(JSON.parse(inside.textContent)); } else { ask(); }
})();
