// try is a program behind the fronts (serve) and what asks it through the whole network (load, ask,
// measure).
//
// Each command prints one JSON object. Times named "at", "began", "ended" and "closed" are
// nanoseconds of the kernel's monotonic clock, which all guests of a machine share.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const usage = "usage: try serve|load|ask|measure …"

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf(usage))
	}
	commands := map[string]func([]string) error{"serve": serve, "load": load, "ask": ask, "measure": measure}
	command, known := commands[os.Args[1]]
	if !known {
		fail(fmt.Errorf(usage))
	}
	if err := command(os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "try:", err)
	os.Exit(1)
}

// told prints what a command found.
func told(found any) error {
	return json.NewEncoder(os.Stdout).Encode(found)
}

// now is the kernel's monotonic clock.
func now() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		fail(err)
	}
	return at.Nano()
}

// milliseconds of a span of that clock.
func milliseconds(span int64) float64 {
	return float64(span) / 1e6
}
