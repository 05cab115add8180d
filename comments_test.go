package diskimage_test

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestPackageComments(t *testing.T) {
	said := map[string]int{}
	for _, f := range tree(t).files {
		if f.test {
			continue
		}
		if _, ok := said[f.dir]; !ok {
			said[f.dir] = 0
		}
		if text := f.ast.Doc.Text(); text != "" {
			said[f.dir]++
			want := "Package " + f.ast.Name.Name + " "
			if f.ast.Name.Name == "main" {
				want = "Command "
				if room(f.dir) == "examples" {
					want = "" // programs to read say what they do as they like
				}
			}
			if !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment does not start with %q", f.path, want)
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(said)) {
		if said[dir] != 1 {
			t.Errorf("%s: has %d package comments, not one", dir, said[dir])
		}
	}
}

// TestExportedComments holds that everything a user of the library can name
// says what it is.
func TestExportedComments(t *testing.T) {
	for _, f := range tree(t).files {
		if r := room(f.dir); f.test || r == "internal" || r == "examples" {
			continue
		}
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				recv := receiver(d)
				if !d.Name.IsExported() || recv != "" && !ast.IsExported(recv) || isStringer(d) {
					continue
				}
				if d.Doc.Text() == "" {
					t.Errorf("%s: %s %s has no comment", f.path, recv, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					s, ok := spec.(*ast.TypeSpec)
					if ok && s.Name.IsExported() && s.Doc.Text() == "" && d.Doc.Text() == "" {
						t.Errorf("%s: type %s has no comment", f.path, s.Name.Name)
					}
				}
			}
		}
	}
}

// isStringer reports whether fn is a method whose name says all there is to
// say.
func isStringer(fn *ast.FuncDecl) bool {
	return fn.Recv != nil && (fn.Name.Name == "String" || fn.Name.Name == "Error" && fn.Type.Params.NumFields() == 0)
}

// TestPublicPackagesHaveExamples holds that each package a user may import
// shows its use.
func TestPublicPackagesHaveExamples(t *testing.T) {
	has := map[string]bool{}
	for _, f := range tree(t).files {
		if r := room(f.dir); r == "internal" || r == "examples" {
			continue
		}
		if !has[f.dir] {
			has[f.dir] = false
		}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && f.test && strings.HasPrefix(fn.Name.Name, "Example") {
				has[f.dir] = true
			}
		}
	}
	for dir, ok := range has {
		if !ok {
			t.Errorf("%s: has no Example", dir)
		}
	}
}
