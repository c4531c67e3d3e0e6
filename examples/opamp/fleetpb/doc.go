// Package fleetpb has the messages of the page, and the services of the fleet.
package fleetpb

//go:generate ../generate.sh
