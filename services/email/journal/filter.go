package journal

import "hash/maphash"

// filter tells of most keys that are not in a set that they are not (a Bloom filter: 10 bits a key and 7 probes let 1 %
// pass). It lives in memory only, so its seed may differ between processes.
type filter struct {
	seed maphash.Seed
	bits []uint64
}

const filterProbes = 7

func newFilter(keys int) filter {
	return filter{seed: maphash.MakeSeed(), bits: make([]uint64, keys*10/64+1)}
}

// probes calls f with each bit's place until it returns false, and returns whether it never did.
func (b *filter) probes(k key, f func(word int, bit uint64) bool) bool {
	h := maphash.Bytes(b.seed, k[:])
	step := h>>32 | 1
	for range filterProbes {
		i := h % uint64(len(b.bits)*64)
		if !f(int(i/64), 1<<(i%64)) {
			return false
		}
		h += step
	}
	return true
}

func (b *filter) add(k key) {
	b.probes(k, func(word int, bit uint64) bool { b.bits[word] |= bit; return true })
}

func (b *filter) mayHave(k key) bool {
	return b.probes(k, func(word int, bit uint64) bool { return b.bits[word]&bit != 0 })
}
