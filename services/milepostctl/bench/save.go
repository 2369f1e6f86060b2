package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Save writes report.json into a folder, which it makes; nothing if dir is "".
func (r Report) Save(dir string) error {
	if dir == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.json"), append(b, '\n'), 0o644)
}
