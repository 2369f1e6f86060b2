package records

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// ErrRefused is wrapped by the error of a record that the store will never accept.
var ErrRefused = errors.New("the store refuses the record")

// refusals are the server's codes for a document that it will never accept.
// https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
var refusals = []int{
	2,     // BadValue
	14,    // TypeMismatch
	22,    // InvalidBSON
	52,    // DollarPrefixedFieldName
	53,    // InvalidIdField
	56,    // EmptyFieldName
	57,    // DottedFieldName
	121,   // DocumentValidationFailure
	171,   // CannotIndexParallelArrays
	10334, // BSONObjectTooLarge
	11000, // DuplicateKey, of an index other than _id
	17280, // KeyTooLong
}

// outages are the server's codes for a store that accepts no document now.
var outages = []int{
	6, 7, 89, // HostUnreachable, HostNotFound, NetworkTimeout
	13, 18, // Unauthorized, AuthenticationFailed: for the operator to fix
	50, 202, 262, // MaxTimeMSExpired, NetworkInterfaceExceededTimeLimit, ExceededTimeLimit
	64, 79, 100, // WriteConcernFailed, UnknownReplWriteConcern, UnsatisfiableWriteConcern
	91, 189, 10058, 10107, 11600, 11602, 13435, 13436, // shutting down, not primary, or about to be neither
	133, 134, // FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet
	14031, // OutOfDiskSpace
}

// diskTrouble are FerretDB's messages, with code 1 (InternalError), when SQLite cannot write.
var diskTrouble = []string{
	"database or disk is full", "disk I/O error", "attempt to write a readonly database", "database is locked",
	"unable to open database file",
}

// Down reports whether err is an outage of the store (unreachable, too slow, not primary, disk
// full, login refused) and not about a record. Every error that is not the server's answer is an
// outage.
func Down(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, ErrRefused) || spoilt(err) {
		return false
	}
	var se mongo.ServerError
	var pool driver.RetryablePoolError // another call lost its connection, and all were closed
	if !errors.As(err, &se) || errors.As(err, &pool) || mongo.IsNetworkError(err) || mongo.IsTimeout(err) {
		return true
	}
	for _, label := range []string{"RetryableWriteError", "RetryableError", "NoWritesPerformed", "SystemOverloadedError"} {
		if se.HasErrorLabel(label) {
			return true
		}
	}
	if slices.ContainsFunc(diskTrouble, se.HasErrorMessage) {
		return true
	}
	return slices.ContainsFunc(outages, se.HasErrorCode)
}

// Cause returns why a server cannot be used instead of the driver's error that it found none, whose
// text is the state of all servers. Other errors it returns as they are.
func Cause(err error) error {
	var none topology.ServerSelectionError
	if errors.As(err, &none) {
		for _, server := range none.Desc.Servers {
			if server.LastError != nil {
				return server.LastError
			}
		}
	}
	return err
}

// mark adds ErrRefused to an error that no retry will fix.
func mark(err error) error {
	var se mongo.ServerError
	if spoilt(err) || errors.As(err, &se) && !Down(err) && slices.ContainsFunc(refusals, se.HasErrorCode) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// spoilt reports whether the driver could not encode the record.
func spoilt(err error) bool { return errors.As(err, &mongo.MarshalError{}) }
