/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame of a page: style, script, tables.
 */
#include <math.h>

#include "analyzers/render/page.h"
#include "analyzers/render/svg.h"

/*
 * A is blue and B orange, which people with any colour vision tell apart, and a label stands beside
 * each. Verdicts are words first, colours second.
 */
static const char style[] =
	":root{color-scheme:light dark;--bg:#fcfcfb;--fg:#1b1b1a;--dim:#63625e;--grid:#e4e3df;"
	"--axis:#8d8c86;--a:#2a64c5;--b:#c4570a;--worse:#b3231a;--better:#15713a;"
	"--unknown:#80630a;--same:#63625e;--card:#fff;--setup:#b9b7af;--ram:#8fa9c9;"
	"--device:#b391c8;--activate:#d9b25c;--start:#7fb58c;--postcopy:#d08f8f}\n"
	"@media(prefers-color-scheme:dark){:root{--bg:#171716;--fg:#ecebe6;--dim:#a3a29b;"
	"--grid:#33322f;--axis:#77766f;--a:#7cabf5;--b:#f0a05c;--worse:#f28b80;--better:#74cf94;"
	"--unknown:#e0be5c;--same:#a3a29b;--card:#1f1f1d;--setup:#5c5b56;--ram:#46617f;"
	"--device:#6d4f80;--activate:#80672c;--start:#3f6f4b;--postcopy:#804c4c}}\n"
	"@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--dim:#444;--grid:#ddd;"
	"--axis:#777;--a:#2a64c5;--b:#c4570a;--worse:#b3231a;--better:#15713a;--unknown:#80630a;"
	"--same:#444;--card:#fff;--setup:#b9b7af;--ram:#8fa9c9;--device:#b391c8;"
	"--activate:#d9b25c;--start:#7fb58c;--postcopy:#d08f8f}"
	/* Without this a browser leaves out what is only a colour, such as a phase. */
	"body{print-color-adjust:exact;-webkit-print-color-adjust:exact}"
	".filter,.brief-toggle,tr.dull{display:none!important}svg,tr{break-inside:avoid}"
	"h2,.about,.keys{break-after:avoid}.wide{overflow:visible!important}"
	"td:first-child{min-width:0!important}td,th{padding:.1rem .25rem!important}"
	"table{font-size:7pt!important}}\n"
	"@media screen{.on-paper{display:none}}\n"
	"*{box-sizing:border-box}body{margin:0 auto;padding:1.2rem;max-width:62rem;"
	"background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}\n"
	"h1{font-size:1.35rem;line-height:1.35;margin:.2rem 0 .6rem;overflow-wrap:anywhere}"
	"h2{font-size:1.05rem;margin:2rem 0 .3rem}p{margin:.3rem 0 .7rem;max-width:46rem}"
	"p,li,dd{overflow-wrap:anywhere}.dim,.about{color:var(--dim)}\n"
	".verdict{border-left:5px solid var(--unknown);padding-left:.9rem}"
	".verdict.worse{border-color:var(--worse)}.verdict.better{border-color:var(--better)}"
	".verdict.same{border-color:var(--same)}"
	".gates{margin:.3rem 0;padding:0;list-style:none}.gates li{margin:.15rem 0}\n"
	/* A label at the edge may reach over it, into the page's margin. */
	"svg{display:block;width:100%;height:auto;overflow:visible}.wide{overflow-x:auto}"
	".grid-of-charts{display:grid;gap:.4rem 1rem;"
	"grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr))}\n"
	"text{font:11px system-ui,sans-serif;fill:var(--fg)}.tick{fill:var(--dim)}"
	".label{font-weight:600}.in-band{font-size:10px}"
	/* Charts shrink with the page; what is written on them does not. */
	"@media screen and (max-width:48rem){.chart text{font-size:14px}"
	".chart .in-band{display:none}}"
	"@media screen and (max-width:34rem){.chart text{font-size:18px}"
	".chart .label{font-size:16.5px}.chart circle{r:7px}.chart .interval,.chart "
	".line{stroke-width:3}}\n"
	"line.grid{stroke:var(--grid)}line.axis{stroke:var(--axis)}\n"
	".margin{fill:var(--grid);opacity:.6}"
	".a .interval,.a .dot,.a .median{stroke:var(--a);fill:var(--a)}"
	".b .interval,.b .dot,.b .median{stroke:var(--b);fill:var(--b)}"
	".interval{stroke-width:2}.a .dot,.b .dot{fill-opacity:.35;stroke-width:1}\n"
	".line{fill:none;stroke-width:2}.line.a{stroke:var(--a)}.line.b{stroke:var(--b)}"
	".heat.a,.hold.a{fill:var(--a)}.heat.b,.hold.b{fill:var(--b)}\n";

/* The other half: what is left of verdicts, phases and tables. */
static const char style_of_tables[] =
	"svg .worse .interval{stroke:var(--worse)}svg .worse circle{fill:var(--worse)}"
	"svg .better .interval{stroke:var(--better)}svg .better circle{fill:var(--better)}"
	"svg .same .interval{stroke:var(--same)}svg .same circle{fill:var(--same)}"
	"svg .unknown .interval{stroke:var(--unknown)}"
	"svg .unknown circle{fill:var(--bg);stroke:var(--unknown);stroke-width:2}"
	"svg .worse .beyond,svg .worse .word{fill:var(--worse)}"
	"svg .better .beyond,svg .better .word{fill:var(--better)}"
	"svg .same .beyond,svg .same .word{fill:var(--same)}"
	"svg .unknown .beyond,svg .unknown .word{fill:var(--unknown)}\n"
	".phase-setup{fill:var(--setup)}.phase-ram{fill:var(--ram)}.phase-device{fill:var(--device)"
	"}"
	".phase-activate{fill:var(--activate)}.phase-start{fill:var(--start)}"
	".phase-postcopy{fill:var(--postcopy)}\n"
	".keys{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:0;margin:.3rem 0;"
	"list-style:none}.keys svg{display:inline-block;width:12px;height:12px;"
	"margin-right:.4rem;vertical-align:-1px}\n"
	"table{border-collapse:collapse;min-width:min(100%,34rem);font-size:.85rem;"
	"font-variant-numeric:tabular-nums}"
	"th,td{padding:.22rem .4rem;border-bottom:1px solid var(--grid);text-align:left;"
	"white-space:nowrap}td.n,th.n{text-align:right}td:first-child{white-space:normal;"
	"overflow-wrap:anywhere;min-width:13rem}td.word{white-space:normal;min-width:8.5rem}"
	"table.brief tr.dull{display:none}"
	"th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible,"
	".filter:focus-visible{outline:2px solid var(--a);outline-offset:2px}"
	"th[aria-sort=ascending] button::after{content:' \\2191'}"
	"th[aria-sort=descending] button::after{content:' \\2193'}\n"
	"tr.worse td.word{color:var(--worse);font-weight:600}"
	"tr.better td.word{color:var(--better);font-weight:600}"
	"tr.unknown td.word{color:var(--unknown)}"
	".filter{font:inherit;color:inherit;background:var(--card);border:1px solid var(--axis);"
	"border-radius:4px;padding:.25rem .5rem;width:min(100%,20rem);margin:.3rem 1rem .3rem 0}"
	".brief-toggle{display:inline-block;margin:.3rem 0}\n"
	"dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.15rem 1rem;"
	"margin:.4rem 0}dt{color:var(--dim)}dd{margin:0}"
	/* Names and verdicts stay in sight while the numbers are pushed aside. */
	"@media screen and (max-width:34rem){body{padding:.7rem}dl{grid-template-columns:1fr}"
	"dd{margin-bottom:.4rem}td:first-child,th:first-child{position:sticky;left:0;"
	"background:var(--bg);min-width:8.5rem}td.word{min-width:7.5rem}}\n";

static const char script[] =
	"document.querySelectorAll('table.sortable').forEach(table=>{\n"
	"const body=table.tBodies[0],heads=[...table.tHead.rows[0].cells];\n"
	"const key=(row,i)=>{const c=row.cells[i],k=c.dataset.k;return k===undefined?"
	"c.textContent:parseFloat(k)};\n"
	"heads.forEach((head,i)=>head.querySelector('button').addEventListener('click',()=>{\n"
	"const down=head.getAttribute('aria-sort')==='ascending';\n"
	"heads.forEach(h=>h.removeAttribute('aria-sort'));\n"
	"head.setAttribute('aria-sort',down?'descending':'ascending');\n"
	"[...body.rows].sort((x,y)=>{const a=key(x,i),b=key(y,i);\n"
	"const r=typeof a==='number'&&typeof b==='number'?a-b:String(a).localeCompare(String(b));\n"
	"return down?-r:r}).forEach(row=>body.append(row))}));\n"
	"const filter=document.createElement('input');filter.className='filter';"
	"filter.type='search';filter.placeholder='filter';"
	"filter.setAttribute('aria-label','filter the rows');\n"
	"const dull=table.querySelectorAll('tr.dull').length,all=document.createElement('input');\n"
	"const look=()=>{const w=filter.value.toLowerCase();"
	"table.classList.toggle('brief',dull>0&&!all.checked&&!w);"
	"for(const row of body.rows)row.hidden=!row.textContent.toLowerCase().includes(w)};\n"
	"filter.addEventListener('input',look);table.parentElement.before(filter);\n"
	"if(dull){const label=document.createElement('label');label.className='brief-toggle';"
	"all.type='checkbox';all.addEventListener('change',look);"
	"label.append(all,` also the ${dull} that tell nothing`);"
	"table.parentElement.before(label)}\nlook()});\n";

void page_begin(GString *out, const char *title)
{
	g_string_append(out,
			"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
			"<meta name=\"viewport\" content=\"width=device-width,"
			"initial-scale=1\">\n<title>");
	html_text(out, title);
	/* No icon is fetched, nothing else either. */
	g_string_append_printf(out,
			       "</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n%s%s"
			       "</style>\n</head>\n<body>\n",
			       style, style_of_tables);
}

void page_end(GString *out)
{
	g_string_append_printf(out, "<script>\n%s</script>\n</body>\n</html>\n", script);
}

void page_section(GString *out, const char *title, const char *about)
{
	g_string_append(out, "<h2>");
	html_text(out, title);
	g_string_append(out, "</h2>\n");
	if (!about)
		return;
	g_string_append(out, "<p class=\"about\">");
	html_text(out, about);
	g_string_append(out, "</p>\n");
}

void page_chart_begin(GString *out)
{
	g_string_append(out, "<div class=\"chart\">\n");
}

void page_chart_end(GString *out)
{
	g_string_append(out, "</div>\n");
}

void page_wide_begin(GString *out)
{
	g_string_append(out, "<div class=\"wide\">\n");
}

void page_wide_end(GString *out)
{
	g_string_append(out, "</div>\n");
}

void page_legend(GString *out, const struct page_key *keys, unsigned n)
{
	g_string_append(out, "<ul class=\"keys\">");
	for (unsigned i = 0; i < n; i++) {
		g_string_append_printf(out,
				       "<li><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\"><rect "
				       "width=\"12\" height=\"12\" rx=\"2\" class=\"%s\"/></svg>",
				       keys[i].class);
		html_text(out, keys[i].text);
		g_string_append(out, "</li>");
	}
	g_string_append(out, "</ul>\n");
}

void page_table_begin(GString *out, const char *const *columns)
{
	g_string_append(out, "<table class=\"sortable\">\n<thead><tr>");
	for (; *columns; columns++) {
		bool number = **columns == '#';

		g_string_append_printf(out, "<th%s><button type=\"button\">",
				       number ? " class=\"n\"" : "");
		html_text(out, *columns + number);
		g_string_append(out, "</button></th>");
	}
	g_string_append(out, "</tr></thead>\n<tbody>\n");
}

void page_row_begin(GString *out, const char *class)
{
	g_string_append_printf(out, "<tr class=\"%s\">", class);
}

void page_cell(GString *out, double key, const char *text)
{
	if (isnan(key))
		g_string_append(out, "<td>");
	else
		/* More than any number, and yet one that JavaScript reads. */
		g_string_append_printf(out, "<td class=\"n\" data-k=\"%.9g\">",
				       isfinite(key) ? key : copysign(1e300, key));
	html_text(out, text);
	g_string_append(out, "</td>");
}

void page_word(GString *out, const char *text)
{
	g_string_append(out, "<td class=\"word\">");
	html_text(out, text);
	g_string_append(out, "</td>");
}

void page_row_end(GString *out)
{
	g_string_append(out, "</tr>\n");
}

void page_table_end(GString *out, unsigned dull)
{
	g_string_append(out, "</tbody>\n</table>\n");
	if (dull)
		g_string_append_printf(
			out,
			"<p class=\"dim on-paper\">%u more tell nothing, and are not "
			"on paper.</p>\n",
			dull);
}
