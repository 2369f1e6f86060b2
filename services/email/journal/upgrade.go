package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"time"
)

// A journal of version 1 has a file NNNNNNNN.ids for each sealed segment, and its segments begin
// with
//
//	milepost-journal 1 <identity> <floor, Unix ms>\n
//
// Open copies these files into ids.db and begins a segment of version 2, which version 1 refuses to
// open. Only then does it remove them.
const (
	headerV1    = "milepost-journal 1 %s %d\n"
	idsHeaderV1 = "milepost-ids 1 %s %d %d %08x\n" // identity, newest submission, entries, CRC-32C
	idsSizeV1   = 16 + entrySize                   // key, time of writing, miles
)

// readIDsV1 reads the file NNNNNNNN.ids of a journal.
func readIDsV1(path, identity string) (events map[key]Written, newest time.Time, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, newest, err
	}
	head, entries, _ := bytes.Cut(b, []byte("\n"))
	var (
		owner     string
		ms, count int64
		sum       uint32
	)
	_, err = fmt.Sscanf(string(head)+"\n", idsHeaderV1, &owner, &ms, &count, &sum)
	if err != nil || int64(len(entries)) != count*idsSizeV1 || crc32.Checksum(entries, castagnoli) != sum {
		return nil, newest, &damagedError{path, "its entries do not agree with its checksum"}
	}
	if owner != identity {
		return nil, newest, &damagedError{path, "it belongs to the journal " + owner}
	}
	events = make(map[key]Written, len(entries)/idsSizeV1)
	for ; len(entries) > 0; entries = entries[idsSizeV1:] {
		events[key(entries)] = Written{
			SentAt: time.UnixMilli(int64(binary.BigEndian.Uint64(entries[16:]))),
			Miles:  math.Float64frombits(binary.BigEndian.Uint64(entries[24:])),
		}
	}
	return events, time.UnixMilli(ms), nil
}
