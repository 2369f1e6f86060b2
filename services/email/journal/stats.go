package journal

// Stats are figures of an open journal. Counters begin at 0 with [Open].
type Stats struct {
	Events     int   // remembered
	Size       int64 // bytes of the journal's files
	Records    int   // written since
	Bytes      int64 // of these records
	Lines      int   // known to be in the log since, completed ones included
	Recoveries int   // records whose lines were completed after a crash or an error
	Rotations  int   // times that the log was found renamed or removed, and a new one begun
}

// Stats waits for a write under way.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Events, s.Size, s.Rotations = j.events(), j.active.size, j.log.rotations
	for _, old := range j.sealed {
		s.Size += old.start + int64(old.count)*idsSize
	}
	return s
}
