package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// load reads the journal, or makes a new one, and ends what a crash has cut short.
func (j *Journal) load() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	number, others := 0, false
	for _, e := range entries {
		number = max(number, segmentNumber(e.Name()))
		others = others || e.Name() == idsName
	}
	switch {
	case number > 0:
		var records []*record
		j.active, records, err = openSegment(j.name(number), number)
		if n := len(records); n > 0 && records[n-1].state == begun {
			j.last, records = records[n-1], records[:n-1]
		}
		j.loose = records
	case others:
		err = &damagedError{j.dir, "the segment being written is missing"}
	default:
		j.active, err = createSegment(j.name(1), 1, "journal-"+uuid.NewString())
	}
	if err != nil {
		return err
	}
	if err := j.loadIDs(); err != nil {
		return errors.Join(err, j.active.f.Close())
	}
	if err := j.tidy(); err != nil {
		return errors.Join(err, j.active.f.Close(), j.ids.db.Close())
	}
	return nil
}

// loadIDs opens ids.db. A new journal has none yet.
func (j *Journal) loadIDs() (err error) {
	path, s := filepath.Join(j.dir, idsName), j.active
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && s.number == 1 {
		if err := createIDs(path, s.identity); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	j.ids, err = openIDs(path, s.identity, s.number)
	return err
}

func (j *Journal) name(segment int) string {
	return filepath.Join(j.dir, fmt.Sprintf("%08d.records", segment))
}

// segmentNumber is the reverse of name; 0 for other names.
func segmentNumber(name string) int {
	number, kind, _ := strings.Cut(name, ".")
	n, err := strconv.Atoi(number)
	if err != nil || n <= 0 || kind != "records" || fmt.Sprintf("%08d", n) != number {
		return 0
	}
	return n
}
