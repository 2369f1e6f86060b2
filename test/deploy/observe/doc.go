// Package observe holds the tests of what watches Milepost: the alert rules, dashboards and
// Prometheus' configuration in charts/milepost/files, and deploy/RUNBOOK.md. There is nothing in it
// to import.
package observe
