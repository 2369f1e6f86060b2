package embedded

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	_ "modernc.org/sqlite" // the database/sql driver that FerretDB uses
)

// IndexIDs adds an index for look-ups by _id to a collection, which it makes if needed. It is
// idempotent. FerretDB v1.24 has an index of `_ferretdb_sjson->"_id"` but queries
// `_ferretdb_sjson->'$._id'`, so without this index SQLite reads every document.
func (s *Store) IndexIDs(ctx context.Context, database, collection string) error {
	if err := s.create(ctx, database, collection); err != nil {
		return fmt.Errorf("make collection %s: %w", collection, err)
	}
	if err := s.index(ctx, database, collection); err != nil {
		return fmt.Errorf("index _id of collection %s: %w", collection, err)
	}
	return nil
}

func (s *Store) create(ctx context.Context, database, collection string) error {
	client, err := mongo.Connect(options.Client().ApplyURI(s.url).SetTimeout(10 * time.Second))
	if err != nil {
		return err
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }() // no operation is open
	db := client.Database(database)
	have, err := db.ListCollectionNames(ctx, map[string]string{"name": collection})
	if err != nil || len(have) > 0 {
		return err
	}
	return db.CreateCollection(ctx, collection)
}

func (s *Store) index(ctx context.Context, database, collection string) error {
	file := url.URL{
		Scheme: "file", Opaque: filepath.ToSlash(filepath.Join(s.dir, database+".sqlite")),
		RawQuery: url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(wal)"}}.Encode(),
	}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		return err
	}
	defer db.Close()
	var table string
	err = db.QueryRowContext(ctx, `SELECT table_name FROM _ferretdb_collections WHERE name = ?`, collection).Scan(&table)
	if err != nil {
		return err
	}
	quote := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	_, err = db.ExecContext(ctx, fmt.Sprintf(`CREATE INDEX IF NOT EXISTS %s ON %s (_ferretdb_sjson->'$._id')`,
		quote(table+"_milepost_id"), quote(table)))
	return err
}
