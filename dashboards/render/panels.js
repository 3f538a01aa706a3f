/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One function a kind of panel: draws what Prometheus gave into the panel's body. */
'use strict';

function element(tag, attributes, ...children) {
	const e = Object.assign(document.createElement(tag), attributes);

	e.append(...children);
	return e;
}

function nameOf(metric, legend) {
	if (legend && legend !== '__auto')
		return legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (all, label) => metric[label] ?? '');
	return Object.entries(metric).filter(([k]) => k !== '__name__').map(([k, v]) => `${k}=${v}`).join(', ') || 'value';
}

const number = text => text === 'NaN' ? null : Number(text);

/* Matrix results of all targets on one time axis. */
function aligned(results, view) {
	const times = [];

	for (let t = view.from; t <= view.to; t += view.step)
		times.push(t);
	const series = results.flatMap(({ target, result }) => result.map(r => {
		const at = new Map(r.values.map(([t, v]) => [Math.round(t), number(v)]));

		return { name: nameOf(r.metric, target.legendFormat), metric: r.metric, values: times.map(t => at.get(t) ?? null) };
	}));
	return { times, series };
}

function legend(series, colours, defaults) {
	const box = element('div', { className: 'legend' }, element('span'), element('b', { textContent: 'mean' }),
		element('b', { textContent: 'max' }));

	series.forEach((s, i) => {
		const known = s.values.filter(v => v !== null);

		box.append(element('span', { title: s.name }, element('i', { style: `background:${colours[i]}` }), s.name),
			element('b', { textContent: written(known.reduce((a, b) => a + b, 0) / known.length, defaults) }),
			element('b', { textContent: written(Math.max(...known), defaults) }));
	});
	return box;
}

/* Phases as dashed lines over whatever is drawn. */
function markNotes(context, notes, x, top, bottom, ratio) {
	let last = -1e9, level = 0;

	context.save();
	context.strokeStyle = context.fillStyle = '#8a3ffc';
	context.lineWidth = ratio;
	context.textAlign = 'left';
	context.font = `${10 * ratio}px system-ui`;
	context.setLineDash([4 * ratio, 3 * ratio]);
	for (const note of notes) {
		const at = x(note.time);

		if (at === null)
			continue;
		/* Labels that would cover each other step down. */
		level = at - last < 46 * ratio ? level + 1 : 0;
		last = at;
		context.beginPath();
		context.moveTo(at, top);
		context.lineTo(at, bottom);
		context.stroke();
		context.fillText(note.text, at + 3 * ratio, top + (10 + 11 * (level % 6)) * ratio);
	}
	context.restore();
}

function timeseries(body, panel, results, view) {
	const { times, series } = aligned(results, view), defaults = panel.fieldConfig.defaults;
	const custom = defaults.custom, stack = custom.stacking.mode === 'normal';
	const colours = series.map((s, i) => palette[i % palette.length]);
	const rows = Math.min(series.length, 5) + 1, height = Math.max(body.clientHeight - 16 * rows, 70);
	const sums = times.map(() => 0);
	const data = series.map(s => s.values.map((v, i) => !stack ? v : v === null ? sums[i] : sums[i] += v));
	const holder = element('div', { className: 'chart' });
	const order = series.map((s, i) => i);

	/* The highest band first, so that those below are drawn over it. */
	if (stack)
		order.reverse();
	body.append(holder, legend(series, colours, defaults));
	new uPlot({
		width: body.clientWidth, height, legend: { show: false }, cursor: { show: false },
		scales: { x: { range: [view.from, view.to] }, y: { range: (u, min, max) => [0, (max || 1) * 1.05] } },
		axes: [{ size: 26, font: '11px system-ui', space: 60, values: (u, v) => v.map(t => new Date(t * 1000).toTimeString().slice(0, 8)) },
			{ size: 64, font: '11px system-ui', space: 24, values: (u, v) => v.map(x => written(x, defaults)) }],
		series: [{}].concat(order.map(i => ({
			stroke: colours[i], width: 1.3, points: { show: false },
			fill: colours[i] + Math.round(custom.fillOpacity * 2.55).toString(16).padStart(2, '0'),
		}))),
		hooks: { draw: [u => markNotes(u.ctx, view.notes, t => t < view.from || t > view.to ? null : u.valToPos(t, 'x', true),
			u.bbox.top, u.bbox.top + u.bbox.height, devicePixelRatio)] },
	}, [times].concat(order.map(i => data[i])), holder);
}

function heatmap(body, panel, results, view) {
	const { times, series } = aligned(results, view), ratio = devicePixelRatio || 1;
	const rows = series.filter(s => s.metric.le !== undefined)
		.sort((a, b) => number(a.metric.le.replace('+Inf', '1e300')) - number(b.metric.le.replace('+Inf', '1e300')));
	const cells = rows.map((r, i) => r.values.map((v, t) => v === null ? 0 : Math.max(0, v - (i ? rows[i - 1].values[t] || 0 : 0))));
	const most = Math.max(1e-9, ...cells.flat()), canvas = element('canvas');
	const w = body.clientWidth, h = body.clientHeight, left = 70, bottom = 22, context = canvas.getContext('2d');
	/* A row is a bucket: from the first to the last that has anything. */
	const used = cells.map(c => c.some(v => v > 0.01)), low = Math.max(used.indexOf(true), 0), high = Math.max(used.lastIndexOf(true), low);
	const rh = (h - bottom) / (high - low + 1), x = t => left + (t - view.from) / (view.to - view.from) * (w - left);
	const cw = Math.max(x(view.from + view.step) - x(view.from), 1);

	canvas.width = w * ratio;
	canvas.height = h * ratio;
	canvas.style.width = `${w}px`;
	canvas.style.height = `${h}px`;
	body.append(canvas);
	context.scale(ratio, ratio);
	context.font = '11px system-ui';
	for (let r = low; r <= high; r++) {
		const y = h - bottom - (r - low + 1) * rh;

		cells[r].forEach((v, t) => {
			if (v <= 0.01)
				return;
			const depth = Math.pow(v / most, 0.25);

			context.fillStyle = `hsl(${38 - 22 * depth} 95% ${88 - 50 * depth}%)`;
			context.fillRect(x(times[t]) - cw / 2, y + 0.5, Math.max(cw - 0.5, 1), rh - 1);
		});
		context.fillStyle = '#657084';
		context.textAlign = 'right';
		const le = rows[r].metric.le;
		context.fillText(le === '+Inf' ? '> ' + written(number(rows[r - 1].metric.le), { unit: 's' }) : '≤ ' + written(number(le), { unit: 's' }),
			left - 6, y + rh / 2 + 4);
	}
	context.textAlign = 'center';
	for (let i = 1; i < 6; i++) {
		const t = view.from + (view.to - view.from) * i / 6;

		context.fillText(new Date(t * 1000).toTimeString().slice(0, 8), x(t), h - 6);
	}
	context.textAlign = 'left';
	markNotes(context, view.notes, t => t < view.from || t > view.to ? null : x(t), 0, h - bottom, 1);
}

/* Runs of one value as blocks, a row a series. */
function stateTimeline(body, panel, results, view) {
	const { times, series } = aligned(results, view), ratio = devicePixelRatio || 1, canvas = element('canvas');
	const shown = series.filter(s => s.values.some(v => v > 0)), w = body.clientWidth, h = body.clientHeight, bottom = 20;
	const context = canvas.getContext('2d'), left = Math.min(220, w * 0.35), rh = (h - bottom) / Math.max(shown.length, 1);
	const x = t => left + (t - view.from) / (view.to - view.from) * (w - left);

	canvas.width = w * ratio;
	canvas.height = h * ratio;
	canvas.style.width = `${w}px`;
	canvas.style.height = `${h}px`;
	body.append(canvas);
	context.scale(ratio, ratio);
	context.font = '11px system-ui';
	shown.forEach((s, r) => {
		context.fillStyle = '#657084';
		context.textAlign = 'right';
		context.fillText(s.name, left - 6, rh * (r + 0.5) + 4, left - 8);
		context.fillStyle = palette[r % palette.length];
		s.values.forEach((v, i) => v > 0 && context.fillRect(x(times[i] - view.step / 2), rh * r + 2,
			Math.max(x(view.from + view.step) - left + 0.5, 1), Math.max(rh - 4, 2)));
	});
	context.fillStyle = '#657084';
	context.textAlign = 'center';
	for (let i = 1; i < 6; i++) {
		const t = view.from + (view.to - view.from) * i / 6;

		context.fillText(new Date(t * 1000).toTimeString().slice(0, 8), x(t), h - 5);
	}
	context.textAlign = 'left';
	markNotes(context, view.notes, t => t < view.from || t > view.to ? null : x(t), 0, h - bottom, 1);
}

function stat(body, panel, results) {
	const value = number(results[0].result[0].value[1]), defaults = panel.fieldConfig.defaults;

	body.append(element('div', { className: 'value', style: `color:${thresholdColour(value, defaults)}`,
		textContent: written(value, defaults) }));
}

function bargauge(body, panel, results) {
	const bars = results.flatMap(({ target, result }) => result.map(r => [nameOf(r.metric, target.legendFormat), number(r.value[1])]))
		.filter(([, v]) => v !== null).sort((a, b) => b[1] - a[1]);
	const most = Math.max(...bars.map(b => b[1]), 1e-12), box = element('div', { className: 'bars' });

	bars.slice(0, Math.floor(body.clientHeight / 17)).forEach(([name, value]) => {
		const depth = value / most;

		box.append(element('span', { textContent: name, title: name }),
			element('div', {}, element('div', { style: `width:${depth * 100}%;background:hsl(${212 + 60 * depth} 60% ${68 - 22 * depth}%)` })),
			element('b', { textContent: written(value, panel.fieldConfig.defaults) }));
	});
	body.append(box);
}

/* Grafana's "merge": rows of several queries that agree in every label that all of them have. */
function merged(results) {
	const several = results.length > 1, labels = results.filter(r => r.result.length).map(r => Object.keys(r.result[0].metric));
	const common = labels.reduce((a, b) => a.filter(l => b.includes(l)), labels[0] || []), rows = new Map();

	for (const { target, result } of results)
		for (const { metric, value } of result) {
			const key = common.map(l => metric[l]).join('\0') + (several ? '' : rows.size);

			rows.set(key, { ...rows.get(key), ...metric, [several ? `Value #${target.refId}` : 'Value']: number(value[1]) });
		}
	return [...rows.values()];
}

function table(body, panel, results) {
	const organize = panel.transformations.find(t => t.id === 'organize').options, order = (panel.options.sortBy || [])[0];
	const place = name => organize.indexByName[name] ?? 99, titleOf = name => organize.renameByName[name] || name;
	const rows = merged(results), known = [...new Set(rows.flatMap(r => Object.keys(r)))];
	const columns = known.filter(c => !organize.excludeByName[c]).sort((a, b) => place(a) - place(b));
	const configOf = name => Object.assign({}, panel.fieldConfig.defaults, ...panel.fieldConfig.overrides
		.filter(o => o.matcher.options === titleOf(name)).flatMap(o => o.properties.map(p => ({ [p.id]: p.value }))));
	const cell = (row, name) => {
		const config = configOf(name), value = row[name], isNumber = typeof value === 'number';

		return element('td', { textContent: value === undefined ? '' : isNumber ? written(value, config) : value,
			style: isNumber && config.thresholds ? `color:${thresholdColour(value, config)}` : '' });
	};
	const by = order && columns.find(c => titleOf(c) === order.displayName);

	if (by)
		rows.sort((a, b) => (order.desc ? -1 : 1) * ((a[by] ?? 0) - (b[by] ?? 0)));
	body.append(element('table', {}, element('tr', {}, ...columns.map(c => element('th', { textContent: titleOf(c) }))),
		...rows.map(r => element('tr', {}, ...columns.map(c => cell(r, c))))));
}

const kinds = { timeseries, heatmap, stat, bargauge, table, 'state-timeline': stateTimeline };
