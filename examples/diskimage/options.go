package main

import (
	"fmt"
	"strings"
)

// An option is one that a verb knows, by its letter, its word, or both.
type option struct {
	letter byte   // 0: none
	word   string // "": none
	arg    argument
	set    func(value string) error
}

// An argument says whether an option takes a value.
type argument uint8

const (
	noArgument       argument = iota
	needsArgument             // -x VALUE, -xVALUE, --word VALUE, --word=VALUE
	optionalArgument          // --word, --word=VALUE
)

// flag is an option that is given or not.
func flag(letter byte, word string, to *bool) option {
	return option{letter, word, noArgument, func(string) error { *to = true; return nil }}
}

// value is an option whose value is taken as it is; the last one counts.
func value(letter byte, word string, to *string) option {
	return option{letter, word, needsArgument, func(v string) error { *to = v; return nil }}
}

// parsed is an option whose value means something.
func parsed(letter byte, word string, set func(string) error) option {
	return option{letter, word, needsArgument, set}
}

// ignored is an option of the reference that asks for nothing that could be
// missed here: it tunes how the work is done, not what comes out of it.
func ignored(letter byte, word string, arg argument) option {
	return option{letter, word, arg, func(string) error { return nil }}
}

// refused is an option of the reference that means something and is not
// offered here.
func refused(letter byte, word string, arg argument, why string) option {
	o := option{letter: letter, word: word, arg: arg}
	o.set = func(string) error { return fmt.Errorf("option %s is not supported: %s", o, why) }
	return o
}

// String returns the option as it is typed.
func (o option) String() string {
	if o.letter != 0 {
		return "'-" + string(o.letter) + "'"
	}
	return "'--" + o.word + "'"
}

// A usageError is a command line that cannot be understood.
type usageError string

func (e usageError) Error() string { return string(e) }

// parseOptions goes through the arguments as getopt_long does: options and
// operands mix, letters cluster, a value may be part of the argument or the
// next one, words may be shortened while they are unique, and all after "--"
// are operands. A lone "-" is an operand.
func parseOptions(args []string, known []option) (operands []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(operands, args...), nil
		case strings.HasPrefix(arg, "--"):
			args, err = parseWord(arg, args, known)
		case strings.HasPrefix(arg, "-") && arg != "-":
			args, err = parseLetters(arg, args, known)
		default:
			operands = append(operands, arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return operands, nil
}

// parseWord handles arg, which starts with two dashes, and returns what is
// left of the arguments behind it.
func parseWord(arg string, rest []string, known []option) ([]string, error) {
	word, val, given := strings.Cut(arg[2:], "=")
	o, err := findWord(word, arg, known)
	if err != nil {
		return nil, err
	}
	switch {
	case o.arg == noArgument && given:
		return nil, usageError("option '--" + o.word + "' does not take an argument")
	case o.arg == needsArgument && !given:
		if len(rest) == 0 {
			return nil, usageError("missing argument for option '" + arg + "'")
		}
		val, rest = rest[0], rest[1:]
	case o.arg == optionalArgument && given && val == "":
		return nil, usageError("missing argument for option '" + arg + "'")
	}
	return rest, o.set(val)
}

func findWord(word, arg string, known []option) (option, error) {
	var found []option
	for _, o := range known {
		if o.word == word && word != "" {
			return o, nil
		}
		if word != "" && strings.HasPrefix(o.word, word) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		return option{}, usageError("unrecognized option '" + arg + "'")
	}
	return found[0], nil
}

// parseLetters handles arg, a dash and one or more letters.
func parseLetters(arg string, rest []string, known []option) ([]string, error) {
	for i := 1; i < len(arg); i++ {
		o, ok := findLetter(arg[i], known)
		if !ok {
			return nil, usageError("unrecognized option '" + arg + "'")
		}
		var val string
		if o.arg == needsArgument {
			val = arg[i+1:]
			if val == "" {
				if len(rest) == 0 {
					return nil, usageError("missing argument for option '" + arg + "'")
				}
				val, rest = rest[0], rest[1:]
			}
			i = len(arg)
		}
		if err := o.set(val); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func findLetter(letter byte, known []option) (option, bool) {
	for _, o := range known {
		if o.letter == letter {
			return o, true
		}
	}
	return option{}, false
}

// An output is a form in which a verb prints its result.
type output bool

const (
	human    output = false
	jsonForm output = true
)

func outputOption(to *output) option {
	return parsed(0, "output", func(v string) error {
		switch v {
		case "human":
			*to = human
		case "json":
			*to = jsonForm
		default:
			return fmt.Errorf("--output must be used with human or json as argument.")
		}
		return nil
	})
}
