package keys

import (
	"net"
	"strconv"
	"strings"
)

// AllSlots is how many slots a Redis Cluster has.
const AllSlots = 16384

// Slot is the slot of a key in a Redis Cluster: CRC-16/XMODEM of the key, or of its tag in braces.
func Slot(key string) int {
	if _, after, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(after, "}"); ok && tag != "" {
			key = tag
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % AllSlots
}

// tags are those of n shards. Shard i has the smallest number whose slot is in the ith of n equal
// ranges of all slots.
func tags(n int) []string {
	all := make([]string, n)
	for left, number := n, 0; left > 0; number++ {
		tag := strconv.Itoa(number)
		if i := Slot(tag) * n / AllSlots; all[i] == "" {
			all[i] = tag
			left--
		}
	}
	return all
}

// Slots are those of n shards.
func Slots(n int) []int {
	all := make([]int, n)
	for i, tag := range tags(n) {
		all[i] = Slot(tag)
	}
	return all
}

// Shards returns the names of each of n shards.
func Shards(prefix string, n int) []Names {
	all := make([]Names, n)
	for i, tag := range tags(n) {
		all[i] = Names{Prefix: prefix, Base: prefix + "{" + tag + "}"}
	}
	return all
}

// NodeAddress is the address that the node at from gave for another one or, without a host, for
// itself. It is "" if the node does not know it.
func NodeAddress(from, given string) string {
	host, port, err := net.SplitHostPort(given)
	if err != nil || host == "?" || port == "0" {
		return ""
	}
	if host == "" {
		host, _, _ = net.SplitHostPort(from)
	}
	return net.JoinHostPort(host, port)
}
