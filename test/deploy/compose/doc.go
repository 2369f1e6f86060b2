// Package compose holds the tests of docker-compose.yml, of deploy/Dockerfile and of what they
// start. There is nothing in it to import.
package compose
