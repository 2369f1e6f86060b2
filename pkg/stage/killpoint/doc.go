// Package killpoint lets tests kill a program at a named point. Built with the tag killpoints, a
// program sends itself SIGKILL when it passes the point that MILEPOST_KILL names for the nth time:
// "<point>:<n>". Other builds do nothing.
package killpoint
