/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values as Grafana would write them, for the units that our dashboards use. */
'use strict';

function significant(value) {
	const size = Math.abs(value);

	return value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2).replace(/\.?0+$/, m => m[0] === '.' ? '' : m);
}

function scaled(value, steps) {
	if (!value)
		return '0';
	for (const [size, name] of steps)
		if (Math.abs(value) >= size * 0.9995)
			return significant(value / size) + name;
	const [size, name] = steps[steps.length - 1];
	return significant(value / size) + name;
}

const units = {
	s: v => scaled(v, [[86400, ' d'], [3600, ' h'], [60, ' min'], [1, ' s'], [1e-3, ' ms'], [1e-6, ' µs'], [1e-9, ' ns']]),
	percentunit: v => significant(v * 100) + '%',
	bytes: v => scaled(v, [[2 ** 30, ' GiB'], [2 ** 20, ' MiB'], [1024, ' KiB'], [1, ' B']]),
	cps: v => scaled(v, [[1e6, 'M c/s'], [1e3, 'K c/s'], [1, ' c/s'], [1e-3, 'm c/s']]),
	short: v => scaled(v, [[1e9, ' Bil'], [1e6, ' Mil'], [1e3, ' K'], [1, ''], [1e-3, 'm']]),
	none: v => significant(v),
};

function written(value, defaults) {
	if (value === null || value === undefined || Number.isNaN(value))
		return '–';
	if (defaults.decimals === 0)
		return String(Math.round(value));
	return (units[defaults.unit] || units.short)(value);
}

const palette = ['#3274d9', '#e0752d', '#37872d', '#a352cc', '#c4162a', '#0f8f8f', '#b88a00', '#6d4c9f', '#5a7d2a',
	'#d1498b', '#54626f', '#8f3b1b'];

function thresholdColour(value, defaults) {
	let colour = '#1f60c4';

	for (const step of (defaults.thresholds || { steps: [] }).steps)
		if (step.value === null || value >= step.value)
			colour = { green: '#37872d', orange: '#d9730d', red: '#c4162a', blue: '#1f60c4' }[step.color] || step.color;
	return colour;
}
