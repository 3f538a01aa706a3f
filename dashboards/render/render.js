/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draws a Grafana dashboard from its JSON, as far as ours use Grafana: fills in the variables, asks
 * Prometheus, which serves this page too, and hands each panel's answer to its kind.
 *
 *   index.html?board=incoming&minutes=2&vm=NAME
 */
'use strict';

const boards = ['fleet', 'vm', 'incoming', 'regression'];
const query = new URLSearchParams(location.search);

async function prometheus(path, parameters) {
	const answer = await (await fetch(`/api/v1/${path}?${new URLSearchParams(parameters)}`)).json();

	if (answer.status !== 'success')
		throw new Error(answer.error);
	return answer.data;
}

function filledIn(expression, view) {
	const values = {
		$__rate_interval: `${Math.max(4, view.step + 1)}s`, $__range: `${view.to - view.from}s`, $__interval: `${view.step}s`,
		$instance: '.+', $job: '.+', $vm: query.get('vm') || '.+',
	};

	return Object.entries(values).reduce((text, [name, value]) => text.replaceAll(name, value), expression);
}

async function ask(target, view) {
	const expression = filledIn(target.expr, view);
	const data = target.instant ? await prometheus('query', { query: expression, time: view.to })
		: await prometheus('query_range', { query: expression, start: view.from, end: view.to, step: view.step });

	return { target, result: data.result };
}

async function draw(panel, view) {
	const body = element('div', { className: 'body' }), at = panel.gridPos;
	const card = element('section', { className: panel.type, title: panel.description || '',
		style: `grid-column:${at.x + 1}/span ${at.w};grid-row:${at.y + 1}/span ${at.h}` },
	element('h2', { textContent: panel.title }), body);

	document.querySelector('main').append(card);
	if (panel.type === 'row')
		return;
	try {
		const results = await Promise.all(panel.targets.map(t => ask(t, view)));

		if (!results.some(r => r.result.length))
			body.append(element('div', { className: 'nothing', textContent: 'No data' }));
		else
			kinds[panel.type](body, panel, results, view);
	} catch (error) {
		body.append(element('div', { className: 'nothing error', textContent: error.message }));
	}
}

/* Marks from the dashboard's annotation queries: each series' value is its time, in ms. */
async function notes(board, view) {
	const found = [];

	for (const a of board.annotations.list.filter(a => a.expr)) {
		const { result } = await ask({ expr: a.expr }, view);

		for (const r of result)
			for (const time of new Set(r.values.map(v => Number(v[1]) / 1000)))
				if (time >= view.from && time <= view.to)
					found.push({ time, text: nameOf(r.metric, a.titleFormat) });
	}
	return found.sort((a, b) => a.time - b.time);
}

function link(changes, text, here) {
	const to = new URLSearchParams(query);

	Object.entries(changes).forEach(([k, v]) => v ? to.set(k, v) : to.delete(k));
	return element('a', { href: `?${to}`, textContent: text, className: here ? 'here' : '' });
}

async function main() {
	const name = boards.includes(query.get('board')) ? query.get('board') : 'fleet';
	const board = await (await fetch(`boards/${name}.json`)).json();
	const to = Math.floor(Number(query.get('to')) || Date.now() / 1000), minutes = Number(query.get('minutes')) || 2;
	const view = { to, from: Math.floor(to - minutes * 60), notes: [] };
	const vms = await prometheus('label/vm/values', {});

	view.step = Math.max(1, Math.ceil((view.to - view.from) / 400));
	view.notes = await notes(board, view);
	document.title = board.title;
	document.querySelector('header').append(
		element('h1', { textContent: board.title }),
		element('nav', {}, ...boards.map(b => link({ board: b }, b, b === name))),
		element('nav', {}, element('label', { textContent: 'VM ' }), link({ vm: '' }, 'all', !query.get('vm')),
			...vms.map(v => link({ vm: v }, v, v === query.get('vm')))),
		element('nav', {}, element('label', { textContent: 'last ' }), ...[1, 2, 5, 15].map(m => link({ minutes: m }, `${m} min`, m === minutes))),
		element('p', { textContent: board.description }));
	await Promise.all(board.panels.map(p => draw(p, view)));
	document.body.dataset.drawn = 'yes';
	if (!query.get('to'))
		setTimeout(() => location.reload(), 10000);
}

main();
