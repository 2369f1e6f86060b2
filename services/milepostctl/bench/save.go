package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Save writes report.json and report.svg into dir, which it makes, and returns the folder; for "" one of its own among the
// system's temporary ones.
func (r Report) Save(dir string) (string, error) {
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "milepost-bench-report-")
	} else {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return dir, err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return dir, err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(b, '\n'), 0o644); err != nil {
		return dir, err
	}
	return dir, os.WriteFile(filepath.Join(dir, "report.svg"), r.plot(), 0o644)
}
