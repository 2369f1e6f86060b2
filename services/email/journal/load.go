package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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
		switch n, kind := parseName(e.Name()); {
		case kind == "records":
			number = max(number, n)
		case kind == "ids", e.Name() == idsName:
			others = true
		}
	}
	switch {
	case number > 0:
		j.active, j.last, err = openSegment(j.name(number, "records"), number)
	case others:
		err = &damagedError{j.dir, "the segment being written is missing"}
	default:
		j.active, err = createSegment(j.name(1, "records"), 1, "journal-"+uuid.NewString())
	}
	if err != nil {
		return err
	}
	if err := j.loadIDs(entries); err != nil {
		return errors.Join(err, j.active.f.Close())
	}
	if err := j.tidy(); err != nil {
		return errors.Join(err, j.active.f.Close(), j.ids.db.Close())
	}
	return nil
}

// loadIDs opens ids.db. A new journal and one of version 1 have none yet.
func (j *Journal) loadIDs(entries []os.DirEntry) error {
	path, s := filepath.Join(j.dir, idsName), j.active
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (s.v1 || s.number == 1) {
		state := idsState{Identity: s.identity, Floor: s.floor.UnixMilli(), Sealed: s.number - 1}
		err := createIDs(path, state, func(d *ids) error {
			for _, e := range entries {
				n, kind := parseName(e.Name())
				if kind != "ids" || n >= s.number { // what is still being written is sealed again
					continue
				}
				events, newest, err := readIDsV1(filepath.Join(j.dir, e.Name()), s.identity)
				if err != nil {
					return err
				}
				if err := d.add(n, events, newest, time.Time{}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	var err error
	j.ids, err = openIDs(path, s.identity, s.number)
	return err
}

func (j *Journal) name(n int, kind string) string {
	return filepath.Join(j.dir, fmt.Sprintf("%08d.%s", n, kind))
}

// parseName is the reverse of name; kind is "" for other names.
func parseName(name string) (n int, kind string) {
	number, kind, _ := strings.Cut(name, ".")
	n, err := strconv.Atoi(number)
	if err != nil || n <= 0 || fmt.Sprintf("%08d", n) != number {
		return 0, ""
	}
	return n, kind
}
