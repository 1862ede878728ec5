package main

import (
	"math/rand"
	"strings"
)

// A grammar of expressions, by type: leaves, and what is made of other expressions. `<I>` stands
// for an expression of that type, `{a|b}` for one of the words.
//
// Left out are the places where we knowingly differ from cel-go 0.22 and Kubernetes 1.32:
// comparing quantities that were computed with == (there: no such overload), isInteger of
// quantities kept as big decimals (there: false), lastIndexOf in an empty text (there: an error),
// "1_0" as a number, nanoseconds of durations above 2^53, and whatever needs constants folded
// before types are checked.
type rule struct{ leaves, inner []string }

var grammar = map[string]rule{
	"I": {
		[]string{"0", "1", "2", "-1", "7", "self.i", "self.j", "self.z", "self.big", "oldSelf.i",
			"9223372036854775807", "-9223372036854775808"},
		[]string{"(<I> {+|-|*|/|%} <I>)", "size(<L>)", "<S>.size()", "-(<I>)", "(<B> ? <I> : <I>)",
			"<L>[{0|1|5|-1}]", "int({<D>|<S>|<I>|<U>})", "<S>.indexOf(<S>)",
			"('x' + <S>).lastIndexOf(<S>)", "<L>.{sum|min|max}()", "<S>.indexOf(<S>, <I>)",
			"('x' + <S>).lastIndexOf(<S>, <I>)",
			"<T>.{getFullYear|getMonth|getDate|getDayOfMonth|getDayOfWeek|getDayOfYear|getHours|getMinutes|getSeconds|getMilliseconds}({|'+03:30'|'UTC'})",
			"<DU>.{getHours|getMinutes|getSeconds|getMilliseconds}()", "<L>.indexOf(<I>)",
			"<Q>.compareTo(<Q>)", "<N>.asInteger()", "sign(<Q>)", "self.?{i|nope|s}.orValue(<I>)",
			"<M>[<S>]", "self.o.{x|n|zz}"},
	},
	"U": {
		[]string{"0u", "1u", "5u", "18446744073709551615u"},
		[]string{"(<U> {+|-|*|/|%} <U>)", "uint({<I>|<D>|<S>})"},
	},
	"D": {
		[]string{"0.0", "1.5", "-2.25", "1e6", "1e-7", "self.d", "3.0", "1e300", "123456789.125", "0.1"},
		[]string{"(<D> {+|-|*|/} <D>)", "double({<I>|<S>|<U>})", "-(<D>)"},
	},
	"S": {
		[]string{"''", "'a'", "'b'", "'ab'", "'hello'", "self.s", "self.e", "self.u", "oldSelf.s", "'12'",
			"'-3.5'", "'true'", "'ä€😀'", "' x '", "self.q", "'a,b,,c'", "'+7'", "'0x1F'"},
		[]string{"(<S> + <S>)", "string({<I>|<D>|<B>|<S>|<U>|<DU>|<T>|<BY>})",
			"<S>.{lowerAscii|upperAscii|trim}()", "<S>.substring(<I>)",
			"<S>.substring({0|1|2|3}, {0|1|2|3|4})", "<S>.charAt(<I>)", "<S>.replace(<S>, <S>)",
			"<S>.replace(<S>, <S>, {0|1|2|-1})", "<LS>.join(<S>)", "<LS>.join()",
			"(<B> ? <S> : <S>)", "<S>.find(<RX>)", "<LS>[{0|1|2}]", "<F>", "self.o.x.y",
			"strings.quote(<S>)", "self.objs.map(o, o.name)[{0|1|2|3}]"},
	},
	"RX": {[]string{"'[a-z]+'", "'^h.*o$'", "'(l+)'", "'\\\\d+'", "'o?'", "''", "'[^a]'", "'(?i)HEL'",
		"'a|b'", "'\\\\w\\\\s'", "'^$'", "'.'"}, nil},
	"F": {
		[]string{"'<%%>'.format([])"},
		[]string{"'<%s>'.format([{<I>|<D>|<S>|<B>|<L>|<LS>|<M>|<T>|<DU>|<U>}])", "'<%d>'.format([{<I>|<U>}])",
			"'<%f>'.format([<D>])", "'<%.2f>'.format([<D>])", "'<%x>'.format([{<I>|<S>}])",
			"'<%X>'.format([<I>])", "'<%o>'.format([<I>])", "'<%b>'.format([{<I>|<B>}])"},
	},
	"L": {
		[]string{"[1, 2, 3]", "self.l", "oldSelf.l", "[5]", "[3, 1, 2]", "[1, 1]"},
		[]string{"[<I>, <I>]", "(<L> + <L>)", "<L>.map(x, {x + 1|x * x|10 / x|x})",
			"<L>.filter(x, {x > 1|x % 2 == 0|10 / x > 2|x in self.l})",
			"<L>.transformList(k, w, {k + w|k * w})", "self.objs.map(o, o.v)",
			"<L>.map(x, x > 1, x * 2)", "[?self.?i, ?self.?nope]"},
	},
	"LS": {
		[]string{"['a', 'b']", "self.ls", "['x']", "['b', 'a', 'b']"},
		[]string{"<S>.split(<S>)", "<S>.split(<S>, {-1|0|1|2})", "<S>.findAll(<RX>)",
			"<S>.findAll(<RX>, {-1|0|1|2})", "<LS>.map(y, y + 'z')", "<LS>.filter(y, y != 'a')",
			"(<LS> + <LS>)"},
	},
	"M": {
		[]string{"{'a': 1, 'b': 2}", "self.m"},
		[]string{"{'a': <I>, <S>: <I>}", "self.m.transformMap(k, v, v + 1)", "{'q': 1, ?'r': self.?i}"},
	},
	"BY": {[]string{"b'abc'", "b'\\xff'", "bytes('hé')", "b''"}, nil},
	"DU": {
		[]string{"duration('1h')", "duration('90s')", "duration('-1.5s')", "duration('100ms')",
			"duration(self.du)", "duration('1ns')"},
		[]string{"(<DU> {+|-} <DU>)", "duration(<S>)"},
	},
	"T": {
		[]string{"timestamp('2024-01-01T00:00:00Z')", "timestamp(self.ts)",
			"timestamp('1969-12-31T23:59:59.999Z')", "timestamp('9999-12-31T23:59:59Z')",
			"timestamp(0)", "timestamp('2024-06-30T23:00:00-05:00')"},
		[]string{"(<T> {+|-} <DU>)", "timestamp(<I>)", "timestamp(<S>)"},
	},
	"N": {[]string{"quantity('100')", "quantity('1Gi')", "quantity('1.5')", "quantity('-2k')",
		"quantity('1e3')", "quantity('500m')"}, nil},
	"Q": {
		[]string{"quantity({'1Gi'|'500m'|'1.5'|'-2k'|'1e3'|'0'|self.q|'100'|'9223372036854775807'|'1E'|'10Ei'|'x'|'.5Ki'|'1n'|'1u'|'+3'})"},
		[]string{"<Q>.{add|sub}({<Q>|1|-5|self.i|self.big})"},
	},
	"DY": {
		[]string{"self.n", "self.mixed", "self.o", "self.objs", "self.mixed[1]", "self.nope", "null",
			"self.m", "self.mixed[4]"},
		[]string{"dyn({<I>|<D>|<S>|<B>|<L>|<LS>|<M>|<DU>|<T>|<U>|<BY>})"},
	},
	"B": {
		[]string{"true", "false", "self.t", "self.f", "has(self.i)", "has(self.nope)", "has(self.o.x.y)",
			"has(self.s.x)", "self.nope"},
		[]string{"(<B> && <B>)", "(<B> || <B>)", "!(<B>)", "<I> {==|!=|<|<=|>|>=} <I>",
			"<I> {<|<=|>|>=} <D>", "<D> {==|!=|<|<=|>|>=} <D>", "<S> {==|!=|<|<=|>|>=} <S>",
			"<DU> {==|!=|<|<=|>|>=} <DU>", "<T> {==|!=|<|<=|>|>=} <T>", "<L> {==|!=} <L>",
			"<M> == <M>", "<I> in <L>", "<S> in {<LS>|<M>}",
			"<L>.{all|exists|exists_one}(x, {x > 1|x == 1|10 / (x - 1) > 0|x in self.l})",
			"<LS>.{all|exists|exists_one}(y, {y.size() > 1|y == self.s|y.startsWith(self.ls[0])})",
			"<L>.{all|exists|existsOne}(k, w, {k < w|k == w|w / k > 0})",
			"<M>.{all|exists|exists_one}(k, {k == 'a'|self.m[k] > 1})",
			"<S>.{contains|startsWith|endsWith}(<S>)", "<S>.matches(<RX>)", "{<L>|<LS>}.isSorted()",
			"sets.{contains|equivalent|intersects}(<L>, <L>)", "<Q>.{isGreaterThan|isLessThan}(<Q>)",
			"isQuantity(<S>)", "(<DY>) {==|!=|<|<=|>|>=} (<DY>)",
			"type(<DY>) == {int|string|list|map|null_type|double|google.protobuf.Duration}",
			"<DY> in {self.mixed|self.m|self.l}", "(<DY> {+|-|*|/|%} <DY>) == <DY>",
			"self.{i|?nope|o|?s|?l[?0]|?l[?9]|?o.x.?y|m[?'a']}.hasValue()",
			"<DY>.{x|all(z, z == 1)|size() > 0|startsWith('a')|name} == <DY>",
			"optional.{of(1)|none()|ofNonZeroValue(<I>)}.{hasValue()|value() == 1|orValue(2) == 2|optMap(x, x + 1).value() == 2}"},
	},
}

func pick(r *rand.Rand, words []string) string { return words[r.Intn(len(words))] }

// One alternative of "a|b|c" where braces within keep theirs together.
func choose(r *rand.Rand, text string) string {
	return pick(r, strings.Split(text, "|"))
}

// expand makes an expression of a type.
func expand(r *rand.Rand, symbol string, depth int) string {
	g := grammar[symbol]
	if depth <= 0 || len(g.inner) == 0 || r.Intn(6) == 0 {
		return fill(r, pick(r, g.leaves), depth-1)
	}
	return fill(r, pick(r, g.inner), depth-1)
}

func isSymbol(name string) bool { _, ok := grammar[name]; return ok }

// fill replaces choices and symbols in a template. A brace that holds a ':' or nothing to choose is
// a map of the expression's own.
func fill(r *rand.Rand, template string, depth int) string {
	var out strings.Builder
	for i := 0; i < len(template); i++ {
		rest := template[i:]
		if template[i] == '{' {
			end := strings.IndexByte(rest, '}')
			if inner := rest[1:end]; strings.Contains(inner, "|") && !strings.Contains(inner, ": ") {
				out.WriteString(fill(r, choose(r, inner), depth))
				i += end
				continue
			}
		}
		if template[i] == '<' {
			if end := strings.IndexByte(rest, '>'); end > 0 && isSymbol(rest[1:end]) {
				out.WriteString(expand(r, rest[1:end], depth))
				i += end
				continue
			}
		}
		out.WriteByte(template[i])
	}
	return out.String()
}
