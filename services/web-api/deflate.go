package webapi

import (
	"encoding/binary"
	"math/bits"
)

// deflater compresses a skeleton's pages to one block of DEFLATE (RFC 1951). What repeats in the
// text was found and coded once, at start; a page costs the copying of these bits, the values'
// literals, and the distances over holes, which depend on the values' lengths.
//
// compress/flate can code each text of a skeleton only by itself. Its page has 4.3 kB instead of
// 3.0, so that it does not fit into one write of net/http (4 kB), headers included.
type deflater struct {
	parts    [][]copied // of each part
	literals [286]code
	spans    [30]code // of distances
	head     []code   // before the first part: the lengths of the codes
}

// copied is a piece of a compressed page: bits, then, if length is not 0, a distance.
type copied struct {
	code
	length int // of a match in an earlier part, whose bits code has
	from   int // that part
	back   int // the match's place in its part less the source's place in from
}

// code is n bits, the first is the lowest.
type code struct {
	bits uint32
	n    uint8
}

// token is a byte of a text or, if length is not 0, a match with that many bytes at the offset at
// of the part from.
type token struct {
	literal          byte
	length, from, at int
}

const (
	minMatch, maxMatch = 4, 258
	maxDistance        = 1 << 15
	endOfBlock         = 256
)

// newDeflater finds the repetitions in texts and makes codes for them. Values are the bytes that
// the holes between them usually have.
func newDeflater(texts []string, values string) *deflater {
	d := &deflater{}
	found := matches(texts)
	var literals [286]int
	var spans [30]int
	for i := range values {
		literals[values[i]]++
	}
	literals[endOfBlock]++
	for part, tokens := range found {
		at := 0
		for _, t := range tokens {
			if t.length == 0 {
				literals[t.literal]++
				at++
				continue
			}
			distance := at - t.at
			for _, text := range texts[t.from:part] {
				distance += len(text) + 10 // of a value
			}
			symbol, _ := lengthSymbol(t.length)
			literals[symbol]++
			symbol, _ = spanSymbol(distance)
			spans[symbol]++
			at += t.length
		}
	}
	lengths := append(huffman(literals[:]), huffman(spans[:])...)
	setCodes(d.literals[:], lengths[:286])
	setCodes(d.spans[:], lengths[286:])
	d.head = blockHead(lengths)
	for part, tokens := range found {
		var p []copied
		at := 0
		for _, t := range tokens {
			if t.length == 0 {
				p = append(p, copied{code: d.literals[t.literal]})
				at++
				continue
			}
			symbol, extra := lengthSymbol(t.length)
			c := copied{code: d.literals[symbol].then(extra), length: t.length, from: t.from, back: at - t.at}
			if t.from == part {
				p = append(p, copied{code: c.code}, copied{code: d.span(c.back)})
			} else {
				p = append(p, c)
			}
			at += t.length
		}
		d.parts = append(d.parts, joined(p))
	}
	return d
}

// joined joins codes that follow each other, up to 32 bits.
func joined(pieces []copied) (out []copied) {
	for _, p := range pieces {
		if n := len(out); n > 0 && out[n-1].length == 0 && out[n-1].n+p.n <= 32 {
			p.code = out[n-1].then(p.code)
			out = out[:n-1]
		}
		out = append(out, p)
	}
	return out
}

// matches finds repetitions. A match lies within one part and so does its source.
func matches(texts []string) [][]token {
	type place struct{ part, at int }
	known := map[string][]place{}
	longest := func(part, at int) (best token) {
		text := texts[part]
		if len(text)-at < minMatch {
			return best
		}
		for _, p := range known[text[at:at+minMatch]] {
			n, source := minMatch, texts[p.part]
			for n < maxMatch && at+n < len(text) && p.at+n < len(source) && text[at+n] == source[p.at+n] {
				n++
			}
			if n >= best.length { // of equal ones the nearest
				best = token{length: n, from: p.part, at: p.at}
			}
		}
		return best
	}
	all := make([][]token, len(texts))
	for part, text := range texts {
		learn := func(from, to int) {
			for i := from; i < to && i+minMatch <= len(text); i++ {
				known[text[i:i+minMatch]] = append(known[text[i:i+minMatch]], place{part, i})
			}
		}
		for at := 0; at < len(text); {
			t := longest(part, at)
			learn(at, at+1)
			if t.length > 0 && longest(part, at+1).length > t.length {
				t.length = 0 // the next byte begins a longer one
			}
			if t.length == 0 {
				t = token{literal: text[at]}
			}
			all[part] = append(all[part], t)
			learn(at+1, at+t.length)
			at += max(1, t.length)
		}
	}
	return all
}

// lengthSymbol returns the symbol of a match's length, and its extra bits.
func lengthSymbol(length int) (symbol int, extra code) {
	l := uint32(length - 3)
	if l < 8 {
		return 257 + int(l), code{}
	} else if length == maxMatch {
		return 285, code{}
	}
	n := bits.Len32(l) - 3
	return 261 + 4*n + int(l>>n&3), code{l & (1<<n - 1), uint8(n)}
}

// spanSymbol returns the symbol of a distance, and its extra bits.
func spanSymbol(distance int) (symbol int, extra code) {
	s := uint32(distance - 1)
	if s < 4 {
		return int(s), code{}
	}
	n := bits.Len32(s) - 2
	return 2 + 2*n + int(s>>n&1), code{s & (1<<n - 1), uint8(n)}
}

func (d *deflater) span(distance int) code {
	symbol, extra := spanSymbol(distance)
	return d.spans[symbol].then(extra)
}

func (c code) then(next code) code { return code{c.bits | next.bits<<c.n, c.n + next.n} }

// huffman returns the lengths of codes for symbols that occur so often. Each symbol has a code.
func huffman(counts []int) []uint8 {
	type node struct{ count, parent int }
	nodes := make([]node, len(counts), 2*len(counts))
	open := make([]int, len(counts)) // nodes without a parent
	for i, n := range counts {
		nodes[i].count, open[i] = n+1, i
	}
	smallest := func() (least int) {
		for i, n := range open {
			if nodes[n].count < nodes[open[least]].count {
				least = i
			}
		}
		n := open[least]
		open[least] = open[len(open)-1]
		open = open[:len(open)-1]
		return n
	}
	for len(open) > 1 {
		a, b := smallest(), smallest()
		nodes[a].parent, nodes[b].parent = len(nodes), len(nodes)
		open = append(open, len(nodes))
		nodes = append(nodes, node{count: nodes[a].count + nodes[b].count})
	}
	lengths := make([]uint8, len(nodes))
	for i := len(nodes) - 2; i >= 0; i-- {
		if lengths[i] = lengths[nodes[i].parent] + 1; lengths[i] > 15 { // more than the format allows
			for i := range counts {
				counts[i] /= 2
			}
			return huffman(counts)
		}
	}
	return lengths[:len(counts)]
}

// setCodes makes the codes of these lengths (RFC 1951, 3.2.2).
func setCodes(codes []code, lengths []uint8) {
	next := uint32(0)
	for n := uint8(1); n <= 15; n++ {
		for i, length := range lengths {
			if length == n {
				codes[i] = code{bits.Reverse32(next) >> (32 - n), n}
				next++
			}
		}
		next <<= 1
	}
}

// blockHead is the beginning of the last block, with the lengths of its codes (RFC 1951, 3.2.7).
func blockHead(lengths []uint8) []code {
	// The lengths' own codes have 2 bits for symbol 16, "the last length again", and 4 or 5.
	own := []uint8{5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 2, 0, 0}
	var codes [19]code
	setCodes(codes[:], own)
	head := []code{{1 | 2<<1, 3}, {286 - 257, 5}, {30 - 1, 5}, {19 - 4, 4}}
	for _, i := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		head = append(head, code{uint32(own[i]), 3})
	}
	for i := 0; i < len(lengths); {
		again := 1
		for again < 6 && i > 0 && i+again < len(lengths) && lengths[i+again] == lengths[i] {
			again++
		}
		if i > 0 && lengths[i] == lengths[i-1] && again >= 3 {
			head = append(head, codes[16].then(code{uint32(again - 3), 2}))
			i += again
		} else {
			head = append(head, codes[lengths[i]])
			i++
		}
	}
	return head
}

// bitWriter appends bits to bytes.
type bitWriter struct {
	out []byte
	acc uint64 // bits that are not in out yet
	n   uint8  // their number, less than 32
}

func (w *bitWriter) write(c code) {
	w.acc |= uint64(c.bits) << w.n
	if w.n += c.n; w.n >= 32 {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(w.acc))
		w.acc >>= 32
		w.n -= 32
	}
}

// end fills the last byte with zeros.
func (w *bitWriter) end() []byte {
	for ; w.n > 0; w.n -= min(w.n, 8) {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
	return w.out
}

// append appends the compressed page b.plain to b.zipped. Not ok: a match is too far away.
func (d *deflater) append(b *pageBuffer, parts []part) (ok bool) {
	w := bitWriter{out: b.zipped}
	for _, c := range d.head {
		w.write(c)
	}
	for i, pieces := range d.parts {
		for _, p := range pieces {
			w.write(p.code)
			if p.length == 0 {
				continue
			}
			distance := b.starts[i] - b.starts[p.from] + p.back
			if distance > maxDistance {
				return false
			}
			w.write(d.span(distance))
		}
		at, end := b.starts[i]+len(parts[i].text), len(b.plain)
		if i+1 < len(parts) {
			end = b.starts[i+1]
		}
		if e := parts[i].earlier; e >= 0 && end-at >= minMatch && end-at <= maxMatch {
			if distance := at - b.starts[e] - len(parts[e].text); distance <= maxDistance {
				symbol, extra := lengthSymbol(end - at)
				w.write(d.literals[symbol].then(extra))
				w.write(d.span(distance))
				continue
			}
		}
		for _, c := range b.plain[at:end] {
			w.write(d.literals[c])
		}
	}
	w.write(d.literals[endOfBlock])
	b.zipped = w.end()
	return true
}
