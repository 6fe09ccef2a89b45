{% include "theme.js" %}
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;
  const short = (value) => Number(value.toPrecision(4)).toLocaleString("en");
  // The class, or the labels that pass, written like the true ones; and such labels with their probabilities.
  const inWords = ({ class: name, labels }) => labels ? labels.join(", ") || "no label" : name;
  const withShares = (labels, shares) => labels.map((name, i) => `${name}\u00a0${percent(shares[i])}`).join(", ") || "no label";
  const listed = (names) => names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names.join("");

  let model = null; // what /api/model says
  let known = new Map(); // expected accuracy by subset
  let image = null; // the opened image, as /api/images says
  let file = null; // what it was opened from, to send again should the service have dropped it
  let on = new Set(); // channels that the reader wants
  let unlike = null; // how the image is unlike the training images in the channels of the last answer
  const own = new Map(); // the reader's images by id, each with its last answer or error
  let failed = []; // files that could not be opened, to try again with other settings
  const unopened = new Map(); // what is wrong with each file that could not be opened, by name
  let opening = 0; // number of the latest request to open
  let asking = null; // aborts the latest question to the network

  const switches = new Map();
  const groups = new Map(); // channels of each group
  const phrase = (names) => {
    const whole = [...groups].filter(([, members]) => members.every((name) => names.includes(name)));
    const inside = whole.flatMap(([, members]) => members);
    if (whole.length && names.length < model.channels.length && names.every((name) => inside.includes(name))) return listed(whole.map(([group]) => group));
    const others = model.channels.map((channel) => channel.name).filter((name) => !names.includes(name));
    if (!others.length) return "all channels";
    return names.length > 4 && others.length < names.length ? `all channels but ${listed(others)}` : listed(names);
  };
  const holds = (name) => !image || image.channels.some((channel) => channel.name === name);
  const chosen = () => model.channels.map((channel) => channel.name).filter((name) => on.has(name) && holds(name));

  // An answer as JSON, or an error whose message can be shown as it is.
  async function ask(path, options) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The service does not answer. Is `anychannel serve` still running?");
    }
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) throw Object.assign(new Error(body.error || `The service failed (${answer.status}); its terminal says why.`), { status: answer.status });
    return body;
  }

  function form(fields) {
    const data = new FormData();
    for (const [name, value] of Object.entries(fields)) if (value) data.append(name, value);
    return { method: "POST", body: data };
  }

  // An error, with a button that leads to the panel where it can be mended, if there is one.
  function complain(text, panel = "") {
    byId("problem").querySelector("p").textContent = text;
    byId("problem").hidden = !text;
    const names = { "file-channels": "Name the channels", layout: "Choose the axes" };
    byId("mend").textContent = names[panel] ?? "";
    byId("mend").hidden = !names[panel];
    byId("mend").dataset.panel = panel;
    for (const id of Object.keys(names)) byId(id).setAttribute("aria-invalid", id === panel);
  }
  const panelFor = (text) => text.includes("layout=") ? "layout" : /channel/.test(text) ? "file-channels" : "";

  // Images: the one on show stays until another has been opened.
  function show(opened, source) {
    image = opened;
    file = source;
    clearImportance();
    if (!chosen().length) image.channels.forEach((channel) => on.add(channel.name));
    if (!byId("drop").classList.contains("busy")) drawTitle();
    drawImage();
    drawSwitches();
    predict();
  }

  // Files are opened one after the other; the first one is shown, and a later choice of files takes the turn.
  async function upload(files) {
    const turn = ++opening;
    const limit = model.max_upload_bytes;
    const errors = [];
    let panel = "", first = null;
    failed = [];
    byId("drop").classList.add("busy");
    for (const [number, each] of files.entries()) {
      byId("drop-title").replaceChildren(make("strong", "", `Opening ${each.name}${files.length > 1 ? ` (${number + 1} of ${files.length})` : ""} …`));
      try {
        if (each.size > limit) throw new Error(`${each.name}: it has ${short(each.size / 2 ** 20)} MB, more than the ${short(limit / 2 ** 20)} MB that this service takes; choose a smaller file, or start it with a larger --max-upload-mb`);
        const source = { file: each, file_channels: byId("file-channels").value.trim(), layout: byId("layout").value };
        const opened = await ask("api/images", form(source));
        if (turn !== opening) return;
        unopened.delete(each.name);
        own.get(opened.id)?.row?.remove();
        own.delete(opened.id);
        own.set(opened.id, { image: opened, source });
        if (!first) show(first = opened, source);
      } catch (error) {
        if (turn !== opening) return;
        errors.push(error.message);
        unopened.set(each.name, error.message);
        if (error.status === 422 && panelFor(error.message)) {
          panel ||= panelFor(error.message);
          failed.push(each);
        }
      }
    }
    byId("drop").classList.remove("busy");
    drawTitle();
    drawOwn();
    complain(errors.slice(0, 5).join("\n") + (errors.length > 5 ? `\nand ${errors.length - 5} more files` : ""), panel);
    if (first && files.length > 1) askOthers(asking);
  }

  // The reader's images with their answers from the channels that are on. A row stays the same element, to keep the focus.
  const used = (entry) => entry.image.channels.map((channel) => channel.name).filter((name) => on.has(name));
  const isAnswered = (entry) => entry.asked === used(entry).join(",");

  function makeRow(entry) {
    const row = make("tr");
    const button = make("button");
    button.type = "button";
    const picture = make("img");
    picture.src = entry.image.overview;
    picture.alt = "";
    button.append(picture, entry.image.name);
    button.addEventListener("click", () => show(entry.image, entry.source));
    const head = make("th");
    head.scope = "row";
    head.append(button);
    row.append(head, make("td"), make("td"), make("td", "doubt"));
    row.children[2].hidden = Boolean(model.thresholds);
    return row;
  }

  function drawOwn() {
    byId("own").hidden = own.size < 2;
    byId("own-title").textContent = `Your ${own.size} images`;
    for (const entry of own.values()) {
      const { answer, error } = isAnswered(entry) ? entry : {};
      if (!entry.row) byId("own-rows").append(entry.row = makeRow(entry));
      const [head, name, share, doubt] = entry.row.children;
      head.firstChild.setAttribute("aria-current", entry.image.id === image?.id);
      const shares = new Map(answer?.top.map((guess) => [guess.class, guess.probability]));
      const said = answer?.labels ? withShares(answer.labels, answer.labels.map((one) => shares.get(one))) : answer?.top[0].class;
      name.textContent = said ?? error ?? "…";
      name.className = error ? "wrong" : "";
      share.textContent = answer ? percent(answer.top[0].probability) : "";
      const dead = Object.keys(answer?.dead ?? {});
      doubt.textContent = [dead.length && `check ${listed(dead)}`, answer?.unlike && "unlike the training images"].filter(Boolean).join("; ");
    }
    const count = [...own.values()].filter(isAnswered).length;
    byId("csv").disabled = !count;
    byId("csv").textContent = count > 1 ? `Download ${count} answers as CSV` : "Download as CSV";
  }

  // The table that `anychannel predict --out` writes.
  function download() {
    const quote = (value) => /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    const digits = (share) => { // as Python's %.6g
      const rounded = Number(share.toPrecision(6));
      return rounded && rounded < 1e-4 ? rounded.toExponential().replace(/-(\d)$/, "-0$1") : String(rounded);
    };
    const said = model.thresholds ? ["labels"] : ["class", "probability"];
    const rows = [["file", "channels", ...said, "unlike", "dead", "notes", "error", ...model.classes.map((name) => `p_${name}`)]];
    const failure = (name, error) => [name, "", ...said.map(() => ""), "", "", "", error, ...model.classes.map(() => "")];
    for (const { image: { name }, answer, error } of [...own.values()].filter(isAnswered)) {
      const share = new Map(answer?.top.map((guess) => [guess.class, digits(guess.probability)]));
      const found = answer?.labels ? [answer.labels.join("|")] : [answer?.top[0].class, share.get(answer?.top[0].class)];
      rows.push(error ? failure(name, error)
        : [name, answer.channels.join(","), ...found, answer.unlike ?? "", Object.keys(answer.dead).join(","), answer.notes.join(" "), "", ...model.classes.map((one) => share.get(one) ?? "")]);
    }
    rows.push(...[...unopened].map((one) => failure(...one)));
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([rows.map((row) => row.map(quote).join(",")).join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = "predictions.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function drawTitle() {
    byId("drop-title").replaceChildren(...(image ? [make("strong", "", image.name)] : [make("strong", "", "Drop images here"), " or choose some"]));
  }

  function drawImage() {
    const [rows, columns] = image.image_size;
    const same = image.width === columns && image.height === rows;
    const cut = same ? "" : `, resized and cut to ${columns} × ${rows}`;
    const depth = { uint8: "8 bit", uint16: "16 bit", float32: "32-bit float" }[image.dtype];
    byId("image-facts").textContent = `${image.width} × ${image.height} pixels, ${depth}${cut}${image.label === null ? "" : `; true class ${image.label}`}`;
    byId("overview").src = image.overview;
    byId("overview").hidden = false;
    const dead = Object.entries(image.dead).map(([name, text]) => {
      const note = make("li", "dead", `${name} ${text}: it may be dead or saturated. `);
      const button = make("button", "plain");
      button.type = "button";
      button.dataset.channel = name;
      button.addEventListener("click", () => toggle(name));
      note.append(button);
      return note;
    });
    byId("notes").replaceChildren(...dead, ...image.notes.map((note) => make("li", "", note)));
    byId("notes").hidden = !byId("notes").children.length;
    for (const button of byId("strip").querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.id === image.id);
  }

  // Channels.
  function buildSwitches() {
    byId("switches").classList.toggle("few", model.channels.length <= 4);
    byId("switches").style.setProperty("--count", model.channels.length);
    for (const { name, wavelength_nm: wavelength, kind } of model.channels) {
      const button = make("button", "switch");
      button.type = "button";
      button.setAttribute("role", "switch");
      button.setAttribute("aria-label", `Channel ${name}`);
      const view = make("span", "view");
      const picture = make("img");
      picture.alt = "";
      picture.hidden = true;
      view.append(picture);
      const line = make("span", "line");
      const label = make("span", "name", "");
      label.append(...name.split(/(?<=_)|(?<=[a-z])(?=[0-9])/i).flatMap((part) => [part, document.createElement("wbr")]));
      line.append(label, make("span", "knob"));
      const range = make("span", "range", [...(wavelength === null ? [] : [`${short(wavelength)} nm`]), kind].filter(Boolean).join("; "));
      range.id = `range-${switches.size}`;
      button.setAttribute("aria-describedby", range.id);
      button.append(view, line, range);
      button.addEventListener("click", () => toggle(name));
      const item = make("li");
      item.append(button);
      byId("switches").append(item);
      switches.set(name, { button, picture, range, idle: range.textContent });
    }
  }

  // One button for each sensor, which switches all of its channels.
  function buildGroups() {
    for (const { name, group } of model.channels) if (group !== null) groups.set(group, [...(groups.get(group) ?? []), name]);
    byId("groups").hidden = groups.size < 2;
    byId("groups").replaceChildren(...[...groups].map(([group, members]) => {
      const button = make("button", "", group);
      button.type = "button";
      button.title = listed(members);
      button.addEventListener("click", () => {
        const here = members.filter(holds);
        const off = here.every((name) => on.has(name));
        if (off && chosen().every((name) => here.includes(name))) {
          byId("channel-note").textContent = `${group} stays on: the network needs at least one channel. Switch on another first.`;
          return;
        }
        byId("channel-note").textContent = "";
        for (const name of here) if (off) on.delete(name); else on.add(name);
        drawSwitches();
        predict();
      });
      return button;
    }));
  }

  function drawSwitches() {
    const now = chosen();
    for (const button of byId("groups").children) {
      const here = groups.get(button.textContent).filter(holds);
      button.disabled = !here.length;
      button.setAttribute("aria-pressed", here.length > 0 && here.every((name) => on.has(name)));
    }
    for (const [name, { button, picture, range, idle }] of switches) {
      const plane = image?.channels.find((channel) => channel.name === name);
      const absent = Boolean(image) && !plane;
      const last = now.length === 1 && now[0] === name;
      button.classList.toggle("absent", absent);
      button.classList.toggle("dead", Boolean(image) && name in image.dead);
      button.setAttribute("aria-checked", now.includes(name));
      button.setAttribute("aria-disabled", absent || last);
      picture.hidden = !plane;
      if (plane && picture.getAttribute("src") !== plane.picture) picture.src = plane.picture;
      const values = plane ? [make("span", "word", "values "), `${short(plane.minimum)} to ${short(plane.maximum)}`] : [];
      range.replaceChildren(...(absent ? ["not in this image"] : [make("span", "idle", idle), ...values]));
      range.title = plane ? `shown from ${short(plane.black)} (black) to ${short(plane.white)} (white)` : "";
    }
    for (const button of byId("notes").querySelectorAll("button")) button.textContent = `${now.includes(button.dataset.channel) ? "Leave out" : "Use"} ${button.dataset.channel}`;
    const missing = model.channels.some(({ name }) => holds(name) && !on.has(name));
    byId("all-on").disabled = !missing;
    drawExpected(now);
  }

  function toggle(name) {
    const note = byId("channel-note");
    note.textContent = "";
    if (!holds(name)) {
      note.textContent = `${name} is not in ${image.name}, so it cannot be switched on.`;
      return;
    }
    const now = chosen();
    if (now.length === 1 && now[0] === name) {
      note.textContent = `${name} stays on: the network needs at least one channel. Switch on another first.`;
      return;
    }
    if (!on.delete(name)) on.add(name);
    drawSwitches();
    predict();
  }

  // The figure that stands for all others, of one class an image or of several labels.
  const headline = () => model.thresholds ? "mean average precision" : "accuracy";
  const score = (entry) => entry.accuracy ?? entry.mean_average_precision;

  // What to expect of a subset: only what was measured.
  function drawExpected(now) {
    const found = known.get(now.join(","));
    const whole = known.get(model.channels.map((channel) => channel.name).join(","));
    const figure = byId("accuracy");
    const measured = Boolean(found) && found.refused === null && !unlike;
    figure.classList.toggle("none", !measured);
    byId("rail").hidden = !measured;
    byId("brief").textContent = `Expected ${headline()} ${measured ? percent(score(found)) : unlike ? "does not apply" : "not known"}`;
    if (unlike) {
      figure.textContent = "Does not apply";
      byId("accuracy-note").textContent = "The test images looked like the training images. This image does not.";
      return;
    }
    if (!found) {
      figure.textContent = "Not evaluated";
      byId("accuracy-note").textContent = `No ${headline()} was measured with ${phrase(now)}${now.length > 1 ? "" : " alone"}. ${model.expected_note}`.trim();
      return;
    }
    if (!measured) {
      figure.textContent = "Refused";
      byId("accuracy-note").textContent = `The network does not take ${phrase(now)}: ${found.refused}`;
      return;
    }
    figure.replaceChildren(percent(score(found)), make("span", "", ` ± ${percent(found.standard_error)}`));
    const others = whole && whole !== found && whole.refused === null;
    byId("rail").querySelector(".reached").style.width = `${100 * score(found)}%`;
    byId("rail").querySelector(".whole").hidden = !others;
    if (others) byId("rail").querySelector(".whole").style.left = `${100 * score(whole)}%`;
    byId("accuracy-note").textContent = `of ${found.images.toLocaleString("en")} ${found.split} images, with ${phrase(now)} (± one standard error); ${model.thresholds ? `micro F1 ${percent(found.micro_f1)}` : `balanced accuracy ${percent(found.balanced_accuracy)}`}, macro F1 ${percent(found.macro_f1)}.` + (others ? ` With all channels ${percent(score(whole))}, the mark.` : "");
  }

  // The answer: of two questions under way only the later one counts.
  async function predict() {
    if (!image) return;
    asking?.abort();
    const mine = asking = new AbortController();
    const entry = own.get(image.id) ?? { image, source: null };
    const result = byId("result");
    result.setAttribute("aria-busy", "true");
    result.classList.add("stale");
    drawOwn();
    try {
      await question(entry, mine);
      if (mine === asking) drawAnswer(entry.answer);
    } catch (error) {
      if (mine === asking && error.name !== "AbortError") drawFailure(error);
    } finally {
      if (mine === asking) {
        result.setAttribute("aria-busy", "false");
        result.classList.remove("stale");
        askOthers(mine);
      }
    }
  }

  // The answer to one image from its own channels among those that are on; a file that the service dropped is sent again.
  async function question(entry, turn) {
    const names = used(entry);
    const put = () => ask("api/predict", { ...form({ image: entry.image.id, channels: names.join(","), top: Math.min(model.classes.length, 1000) }), signal: turn.signal });
    const again = async (error) => {
      if (error.status !== 404 || !entry.source) throw error;
      await ask("api/images", { ...form(entry.source), signal: turn.signal });
      return put();
    };
    let answer, problem;
    try {
      if (!names.length) throw Object.assign(new Error(`${entry.image.name} has none of these channels`), { status: 422 });
      answer = await put().catch(again);
    } catch (error) {
      problem = error;
    }
    if (turn === asking) Object.assign(entry, { answer, error: problem?.message, asked: names.join(",") });
    if (problem) throw problem;
  }

  async function askOthers(turn) {
    drawOwn();
    for (const entry of own.values()) {
      if (entry.image.id === image.id || isAnswered(entry)) continue;
      await question(entry, turn).catch(() => {});
      if (turn !== asking) return;
      drawOwn();
    }
  }

  function drawAnswer(answer) {
    const [best] = answer.top;
    unlike = answer.unlike;
    drawExpected(answer.channels);
    byId("unlike").textContent = unlike ?? "";
    byId("unlike").hidden = !unlike;
    byId("retry").hidden = byId("change").hidden = true;
    const said = inWords({ class: best.class, labels: answer.labels });
    byId("best").textContent = said;
    byId("best").classList.remove("none");
    const sure = [answer.labels ? `${answer.labels.length} of ${answer.top.length} labels pass their thresholds` : `${percent(best.probability)} confident`];
    if (answer.label !== null) {
      const right = answer.label === said;
      sure.push(", ", make("span", right ? "right" : "wrong", right ? "right" : `wrong: it is ${answer.label}`));
    }
    byId("sure").replaceChildren(...sure);
    const isPassing = (guess) => guess.threshold !== null && guess.probability >= guess.threshold;
    byId("top").replaceChildren(...answer.top.filter((guess, rank) => rank < 5 || isPassing(guess)).map((guess) => {
      const line = make("li");
      const bar = make("span", "bar");
      const part = make("i", guess.threshold === null ? "" : isPassing(guess) ? "passes" : "below");
      part.style.width = percent(guess.probability).replace("\u00a0", "");
      bar.append(part);
      bar.setAttribute("aria-hidden", "true");
      const passes = guess.threshold === null ? "" : `, ${part.className} ${percent(guess.threshold)}`;
      line.append(make("span", "class", guess.class), make("span", "share", percent(guess.probability) + passes), bar);
      return line;
    }));
    byId("top").hidden = false;
    const expected = answer.expected ? score(answer.expected) : null;
    byId("said").textContent = `${byId("best").textContent}, ${byId("sure").textContent}, from ${phrase(answer.channels)}. ` + (unlike ? `${unlike} The expected ${headline()} does not apply.` : expected === null ? `The ${headline()} with these channels was not measured.` : `Expected ${headline()} ${percent(expected)}.`);
  }

  function drawFailure(error) {
    byId("best").textContent = "No prediction";
    byId("best").classList.add("none");
    byId("sure").textContent = error.message;
    byId("top").hidden = true;
    unlike = null;
    byId("unlike").hidden = true;
    drawExpected(chosen());
    byId("retry").hidden = error.status === 422;
    byId("change").hidden = error.status !== 422;
    byId("said").textContent = `No prediction. ${error.message}`;
  }

  // Which channels the answer rests on: asked for, since it takes an answer from each subset.
  function clearImportance() {
    byId("explain").disabled = !image;
    for (const id of ["contributions", "every", "most"]) byId(id).hidden = true;
    byId("contributions-note").textContent = "";
  }

  async function explain() {
    const mine = image;
    const note = byId("contributions-note");
    byId("explain").disabled = true;
    note.textContent = "Asking the network about each subset …";
    try {
      const put = (id) => ask("api/importance", form({ image: id }));
      const answer = await put(mine.id).catch(async (error) => {
        if (error.status !== 404 || !file) throw error;
        return put((await ask("api/images", form(file))).id);
      });
      if (mine === image) drawImportance(answer);
    } catch (error) {
      if (mine === image) note.textContent = error.message;
    } finally {
      if (mine === image) byId("explain").disabled = false;
    }
  }

  function drawImportance(answer) {
    const points = (share) => `${share < 0 ? "\u2212" : "+"}${Math.abs(100 * share).toFixed(1)}`;
    const most = Math.max(...answer.contributions.map((one) => Math.abs(one.shapley)), 1e-9);
    byId("contributions").replaceChildren(...answer.contributions.map((one) => {
      const line = make("li");
      const bar = make("span", "bar");
      const part = make("i", one.shapley < 0 ? "less" : "");
      part.style.width = `${100 * Math.abs(one.shapley) / most}%`;
      bar.append(part);
      bar.setAttribute("aria-hidden", "true");
      const error = one.standard_error === null ? "" : ` ± ${(100 * one.standard_error).toFixed(1)}`;
      line.title = `${one.adds === null ? "" : `added to all others: ${points(one.adds)} points; `}${one.alone === null ? "" : `alone: ${percent(one.alone)}`}`;
      line.append(make("span", "class", one.name), make("span", "share", points(one.shapley) + error), bar);
      return line;
    }));
    byId("contributions").hidden = false;
    const [first] = answer.contributions;
    byId("most").textContent = `${first.name} matters most for this image: ${points(first.shapley)} points.`;
    byId("most").hidden = false;
    byId("contributions-note").textContent = `Points of probability for ${answer.class} (Shapley values${answer.orders ? `, from ${answer.orders} random orders` : ""}): from ${percent(answer.frequency)}, its share of the test images, to ${percent(answer.probability)} with all channels of this image.`;
    byId("every-rows").replaceChildren(...answer.subsets.map((one) => {
      const row = make("tr");
      const head = make("th", "", one.name.replaceAll(",", ", "));
      head.scope = "row";
      const test = known.get(one.channels.join(","));
      const expected = test ? score(test) : null;
      const right = image.label === null ? "" : image.label === inWords(one) ? "right" : "wrong";
      const said = one.labels ? withShares(one.labels, one.probabilities) : one.class;
      row.append(head, make("td", right, said + (right ? ` (${right})` : "")), make("td", "", percent(one.probability)), make("td", "", expected === null ? "–" : percent(expected)));
      row.children[2].hidden = Boolean(one.labels);
      return row;
    }));
    byId("every").hidden = false;
  }

  // Examples.
  async function loadExamples() {
    const { images, reason } = await ask("api/examples");
    byId("strip").replaceChildren(...images.map((example) => {
      const button = make("button");
      button.type = "button";
      button.dataset.id = example.id;
      button.setAttribute("aria-pressed", "false");
      button.title = `${example.label} (${example.name})`;
      const picture = make("img");
      picture.src = example.overview;
      picture.alt = `Test image ${example.name}, true class ${example.label}`;
      button.append(picture);
      button.addEventListener("click", () => { opening++; byId("drop").classList.remove("busy"); complain(""); show(example, null); });
      const item = make("li");
      item.append(button);
      return item;
    }));
    byId("examples").hidden = !images.length;
    byId("no-examples").hidden = Boolean(images.length);
    byId("no-examples").textContent = reason;
  }

  function listen() {
    byId("file").addEventListener("change", (event) => {
      if (event.target.files.length) upload([...event.target.files]);
      event.target.value = ""; // so that the same file can be chosen again
    });
    let depth = 0; // of elements that a dragged file is over
    const over = (step) => { depth = Math.max(0, depth + step); byId("drop").classList.toggle("over", depth > 0); };
    addEventListener("dragenter", (event) => { event.preventDefault(); over(1); });
    addEventListener("dragleave", () => over(-1));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      over(-depth);
      const files = [...event.dataTransfer.files];
      if (files.length) upload(files);
      else complain("What was dropped is not a file; drop an image file");
    });
    byId("dismiss").addEventListener("click", () => { complain(""); byId("file").focus(); });
    byId("mend").addEventListener("click", () => {
      byId("other-channels").open = true;
      byId(byId("mend").dataset.panel).focus();
    });
    for (const id of ["file-channels", "layout"]) byId(id).addEventListener("change", () => { if (failed.length) upload(failed); });
    byId("change").addEventListener("click", () => byId("switches").querySelector("button:not([aria-disabled=true])").focus());
    byId("csv").addEventListener("click", download);
    byId("all-on").addEventListener("click", () => {
      for (const { name } of model.channels) on.add(name);
      byId("channel-note").textContent = "";
      drawSwitches();
      predict();
    });
    byId("retry").addEventListener("click", predict);
    byId("explain").addEventListener("click", explain);
  }

  async function start() {
    byId("call").textContent = `curl -F file=@image.tif -F channels=${byId("call").dataset.channels} ${new URL("api/predict", location.href)}`;
    try {
      model = await ask("api/model");
      known = new Map(model.expected.map((entry) => [entry.channels.join(","), entry]));
      on = new Set(model.channels.map((channel) => channel.name));
      byId("file-channels").value = model.file_channels.join(",");
      for (const head of document.querySelectorAll("th.probability")) head.hidden = Boolean(model.thresholds);
      buildSwitches();
      buildGroups();
      drawSwitches();
      listen();
      await loadExamples();
    } catch (error) {
      complain(error.message);
    }
  }
  start();
})();
