module github.com/milepost/milepost/services/email

go 1.25.0

require github.com/milepost/milepost/pkg v0.0.0

require (
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/milepost/milepost/pkg => ../../pkg
